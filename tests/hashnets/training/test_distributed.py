"""Several processes train one network: as one process would, the same on each, and one of them writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hashpress.cli.main import run
from hashpress.core.data import load_data
from hashpress.core.device import open_device
from hashpress.core.errors import InputError
from hashpress.core.inputs import input_of
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save

SCHEDULE = Schedule(epochs=2, batch=31, lr=0.02, augment="shift")  # batches that two do not share evenly
COMMAND = "train --encoder lenet300 --bits 8 --data digits?limit=60 --epochs 1 --system dlbhc"


def trained(system):
    split = load_data("digits?limit=120")
    model = untrained(default_arch("lenet300", 8, input_of(split), widths=(20, 12)), seed=1)
    return train(model, split, system, SCHEDULE, seed=2)


def of_one_rank(folder: Path) -> None:
    """What each process of the test below does."""
    rank = os.environ["RANK"]
    for system in ("dpsh", "dlbhc"):
        save(trained(system), folder / f"{system}-{rank}.safetensors")
    assert run([*COMMAND.split(), "-o", str(folder / "one.safetensors")]) == 0


def test_two_processes_train_what_one_does(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("one.safetensors: ") == 1  # one of them speaks, and writes
    names = [f"{system}-{rank}.safetensors" for system in ("dlbhc", "dpsh") for rank in (0, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "one.safetensors"]
    for system in ("dpsh", "dlbhc"):
        first, second = ((tmp_path / f"{system}-{rank}.safetensors").read_bytes() for rank in (0, 1))
        assert first == second
        alone, together = trained(system), load(tmp_path / f"{system}-0.safetensors")
        for name, value in alone.net.state_dict().items():
            torch.testing.assert_close(together.net.state_dict()[name], value, rtol=1e-3, atol=1e-5)
        assert together.history[-1].after["loss"] == pytest.approx(alone.history[-1].after["loss"], rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    assert run([*COMMAND.split(), "--device", "cuda", "-o", str(tmp_path / "m.safetensors")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "cuda:0 was asked for" in message
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        open_device("tpu")
    assert open_device("cpu") == torch.device("cpu")


if __name__ == "__main__":
    of_one_rank(Path(sys.argv[1]))
