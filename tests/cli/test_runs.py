"""What a run says while it goes on and at its end, what it keeps when it is stopped, and what it refuses to begin."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

import hashpress as hp
import pytest
import torch
from hashpress.cli.main import run
from hashpress.compress.finetune.finetune import Finetune
from hashpress.compress.recipe import steps_as_text
from hashpress.core.lock import locked
from hashpress.core.progress import reporting
from hashpress.hashnets.retrieval.assess import assess
from hashpress.modelfile import file
from program import refused

DATA = "digits?limit=200"
RECIPE = '[[pass]]\nname = "prune"\ndensity = 0.5\n[[pass]]\nname = "finetune"\nepochs = 1\n'
TRAIN = ["train", "--encoder", "lenet300", "--system", "dlbhc", "--bits", "8", "--data", DATA, "--epochs", "2"]


@pytest.fixture
def place(tmp_path, model_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.st").write_bytes(model_file.read_bytes())
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


COMPRESS = ["compress", "base.st", "--recipe", "r.toml", "--data", DATA, "-o", "out.st"]


def said(capsys, *words, code=0):
    assert run([*words]) == code
    return capsys.readouterr()


def test_every_step_says_time_bytes_and_cost(place, capsys):
    lines = said(capsys, *COMPRESS).out.splitlines()
    base, small, split = hp.load("base.st"), hp.load("out.st"), hp.load_data(DATA)
    before, after = hp.evaluate(base, split).map, hp.evaluate(small, split).map
    assert lines[0] == f"start:  205.3 kB  mAP {before:.4f}"
    assert lines[1].startswith("step 1/2 prune: ")
    for number, line in zip((1, 2), lines[1:3], strict=True):
        for part in (f"step {number}/2 ", " s  ", " kB -> ", "% of the bits flipped", "  mAP 0."):
            assert part in line
    assert f"mAP {after:.4f}" in lines[2]
    assert lines[-1].startswith(f"mAP {before:.4f} -> {after:.4f} ({after - before:+.4f}), ")
    flips = assess(small, split, base).flips.rate
    assert f"{flips:.2%} of the bits flipped" in lines[-1]
    assert lines[-1].endswith("; 40 queries, 160 images in the database")


def test_a_large_set_is_sampled_and_says_so(place, capsys, monkeypatch):
    monkeypatch.setattr(steps_as_text, "QUERIES", 10)
    monkeypatch.setattr(steps_as_text, "DATABASE", 50)
    lines = said(capsys, *COMPRESS).out.splitlines()
    assert lines[-2].endswith("; 10 of 40 queries, 50 of 160 images in the database")
    assert lines[-1] == f"on all items: hashpress evaluate out.st --data '{DATA}' --against base.st"


def test_without_data_nothing_was_measured_and_it_says_how(place, capsys):
    out = said(capsys, "compress", "base.st", "--recipe", "data-free", "-o", "out.st").out
    assert "step 3/3 share: " in out
    assert "no quality was measured, because no data set was given" in out
    assert out.endswith("hashpress evaluate out.st --data SPEC --against base.st\n")


def test_steps_in_json(place, capsys):
    out, err = said(capsys, *COMPRESS, "--json")
    found = json.loads(out)
    assert [step["name"] for step in found["steps"]] == ["start", "prune", "finetune"]
    assert found["steps"][0]["seconds"] is None
    assert all(step["seconds"] > 0 and {"bytes", "flips", "map"} <= set(step["figures"]) for step in found["steps"][1:])
    assert (found["finished_before"], found["path"]) == (False, "out.st")
    assert "step 2/2 finetune" in err
    again = json.loads(said(capsys, *COMPRESS, "--json", "--resume").out)
    assert again["finished_before"]


def test_bars_name_step_and_pass(place):
    names = []
    with reporting(lambda what, *_: names.append(what)):
        plan = hp.load_recipe("r.toml")
        plan.run(hp.load("base.st"), hp.load_data(DATA))
    assert any(name.startswith("step 2/2 finetune: epoch 1/1") for name in names)
    assert all(name.startswith(("start: ", "step 1/2 prune: ", "step 2/2 finetune: ")) for name in names)


def test_a_finished_run_is_done_at_once(place, capsys, monkeypatch):
    said(capsys, *COMPRESS)
    before = (place / "out.st").read_bytes()
    monkeypatch.setattr(Finetune, "execute", lambda *_: pytest.fail("it ran again"))
    assert "nothing was left to do" in said(capsys, *COMPRESS, "--resume").out
    assert (place / "out.st").read_bytes() == before
    (place / "out.st").write_bytes((place / "base.st").read_bytes())  # another file in its place is no result
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert "nothing was left" not in said(capsys, *COMPRESS, "--resume").out
    assert (place / "out.st").read_bytes() == before


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_run_names_its_command_and_is_not_lost_by_mistake(place, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Finetune, "execute", interrupted)
        assert run(COMPRESS) == 130
    err = capsys.readouterr().err
    assert err.startswith("hashpress: interrupted; out.st.work keeps 1 finished step; go on with: hashpress compress ")
    assert err.count("\n") == 1
    line = refused(capsys, *COMPRESS)
    assert "out.st.work keeps 1 finished step of an earlier run" in line
    assert "--resume" in line
    assert "--restart" in line
    assert "give one of them" in refused(capsys, *COMPRESS, "--resume", "--restart")
    command = shlex.split(err.partition("go on with: hashpress ")[2])
    assert command == [*COMPRESS, "--resume"]
    assert "step 1/2 prune: kept from before" in said(capsys, *command).out
    with monkeypatch.context() as patch:
        patch.setattr(Finetune, "execute", interrupted)
        assert run([*COMPRESS, "--restart"]) == 130
    resumed = (place / "out.st").read_bytes()
    capsys.readouterr()
    assert "step 1/2 prune: 0." in said(capsys, *COMPRESS, "--restart").out
    assert (place / "out.st").read_bytes() == resumed


def test_an_interrupted_training_names_its_command_and_is_not_lost_by_mistake(place, capsys, monkeypatch):
    words = [*TRAIN, "-o", "net.st"]
    ended = []

    def end_epoch(self):
        ended.append(1)
        if len(ended) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hashpress.hashnets.systems.base.System.end_epoch", end_epoch)
        assert run(words) == 130
    err = capsys.readouterr().err
    assert err.startswith(
        "hashpress: interrupted; net.checkpoint keeps the finished epochs; go on with: hashpress train "
    )
    assert "--resume, or discard it and start over with --restart" in refused(capsys, *words)
    said(capsys, *shlex.split(err.partition("go on with: hashpress ")[2]))
    resumed = (place / "net.st").read_bytes()
    assert "nothing was left to do" in said(capsys, *words, "--resume").out
    said(capsys, *words)
    assert (place / "net.st").read_bytes() == resumed
    assert not (place / "net.checkpoint").exists()
    assert "nothing was left" not in said(capsys, *words, "--seed", "1", "--resume").out


@pytest.mark.parametrize("words", [COMPRESS, [*TRAIN, "-o", "out.st"]])
def test_the_second_of_two_runs_to_one_output_is_refused(place, capsys, words):
    with locked("out.st"):
        line = refused(capsys, *words)
    assert f"out.st is being written by another run (process {os.getpid()} on " in line
    assert not (place / "out.st").exists()
    assert not (place / "out.st.lock").exists()
    code = "import os, sys; from hashpress.core.lock import locked\nwith locked('out.st'): os.kill(os.getpid(), 9)"
    died = subprocess.run([sys.executable, "-c", code], cwd=place, check=False, timeout=60)
    assert died.returncode == -9
    assert (place / "out.st.lock").exists()
    said(capsys, *words)
    assert not (place / "out.st.lock").exists()


@pytest.mark.parametrize("rate", ["1e30", "1e10", "1e4"])
def test_a_training_that_diverges_is_an_error_and_saves_nothing(place, capsys, rate):
    line = refused(capsys, *TRAIN, "--lr", rate, "-o", "net.st")
    assert "training diverged: " in line
    assert re.search(r" (at step \d+ of|in) epoch \d; nothing of it is kept; try a tenth of lr", line)
    assert not (place / "net.st").exists()
    assert not (place / "net.checkpoint").exists()


@pytest.mark.parametrize(
    "recipe",
    [
        '[[pass]]\nname = "prune"\ndensity = 0.5\n[[pass]]\nname = "finetune"\nlr = 1e30\n',
        '[[pass]]\nname = "prune"\ndensity = 0.5\nstages = 2\nfinetune = { lr = 1e30, epochs = 1 }\n',
        '[[pass]]\nname = "share"\nlam = 0.1\nfinetune = { lr = 1e30, epochs = 1 }\n',
    ],
)
def test_training_inside_a_pass_that_diverges_is_an_error(place, capsys, recipe):
    (place / "r.toml").write_text(recipe)
    assert run(COMPRESS) == 2
    err = capsys.readouterr().err
    assert "training diverged: the loss is" in err
    assert "of epoch 1" in err
    assert "hashpress: step " in err
    assert ("out.st.work keeps 1 finished step" in err and "--resume" in err) == ("lr = 1e30\n" in recipe), (
        "of two steps"
    )
    assert not (place / "out.st").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_is_not_finite_is_not_saved(place, value):
    model = hp.load("base.st")
    with torch.no_grad():
        model.net.head.weight[0, 0] = value
    with pytest.raises(hp.HashpressError, match=r"head.weight has (nan|inf) in it.* is not saved"):
        file.save(model, "bad.st")
    assert not (place / "bad.st").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "100000000"], "at least one bit and at most 4,096, got 100,000,000"),
        (["--bits", "0"], "--bits"),
        (["--bits", "-1"], "--bits"),
        (["--epochs", "100000000000"], "epochs must be at most 1,000,000"),
        (["--batch", "100000000000"], "batch must be at most 1,000,000"),
        (["--lr", "nan"], "lr must be positive"),
        (["--clip", "inf"], "clip must be at most"),
        (["--weight-decay", "inf"], "weight_decay must be at most"),
        (["--head-lr", "inf"], "head_lr must be at most"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["--threads", "99999999"], "--threads"),
        (["--data", "digits?size=100000000"], "a whole number from 1 to 8,192"),
    ],
)
def test_absurd_numbers_are_refused_in_words(place, capsys, words, message):
    assert message in refused(capsys, *TRAIN, *words, "-o", "net.st")


@pytest.mark.parametrize(
    ("encoder", "widths"), [("lenet300", (10**11, 5)), ("mlp", (10**11,)), ("resnet20", (1, 2, 10**9))]
)
def test_absurd_widths_are_refused_in_words(encoder, widths):
    taken = hp.VectorInput(8, (0.0,) * 8, (1.0,) * 8) if encoder == "mlp" else hp.ImageInput((1, 8, 8), (0.3,), (0.4,))
    with pytest.raises(hp.HashpressError, match="positive numbers of at most 65,536"):
        hp.untrained(hp.default_arch(encoder, 8, taken, widths=widths))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('name = "finetune"\nsteps = 100000000000', "steps must be at most"),
        ('name = "int8"\nsteps = 100000000000', "steps must be at most"),
        ('name = "prune"\nstages = 100000000\nfinetune = {}', "stages must be at most"),
        ('name = "cp"\nrank = 100000000', "from 1 to 65535"),
        ('name = "lowrank"\nranks = { "*" = 0 }', "from 1 to 65535"),
        ('name = "share"\nbits = 100000000', "must be 1 to 12"),
    ],
)
def test_absurd_settings_of_passes_are_refused_before_anything_runs(place, capsys, settings, message):
    (place / "r.toml").write_text(f"[[pass]]\n{settings}\n")
    assert message in refused(capsys, *COMPRESS)


def test_no_folder_for_temporary_files(place, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    assert "set TMPDIR to a folder that can be written" in refused(capsys, "export", "base.st", "-o", "net.onnx")
    (place / "net.pkl").write_bytes(b"x")
    assert run(["import", "--unpickle", "net.pkl", "-o", "net.st"]) == 2
    assert "set TMPDIR to a folder that can be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*TRAIN, "-o", ""], "is a folder"),
        ([*TRAIN, "-o", "."], "is a folder"),
        (["compress", "base.st", "--recipe", "data-free", "-o", ".."], "is a folder"),
        (
            [*TRAIN, "--encoder", "json:loads", "--trust-code", "-o", "x"],
            "encoder 'json:loads' cannot be made by calling it",
        ),
        (
            [*TRAIN, "--encoder", "collections:Counter", "--trust-code", "-o", "x"],
            "must return a torch.nn.Module, gave a",
        ),
        ([*TRAIN, "--data", "json:loads", "--trust-code", "-o", "x"], "data set 'json:loads' failed: TypeError"),
        ([*TRAIN, "--data", "builtins:str", "--trust-code", "-o", "x"], "must give hashpress.Parts, gave a str"),
        (["profile", "base.st"], "is a file, not a bundle; compile a model file first"),
        (["profile", "base.st", "--seconds", "inf"], "--seconds"),
        (["profile", "base.st", "--repeats", "99999999999999999999"], "--repeats"),
    ],
)
def test_odd_inputs_are_one_line(place, capsys, words, message):
    assert message in refused(capsys, *words)
