"""A kill or a full disk in the middle of the program: nothing half-written, and --resume ends in the same bytes."""

import signal
import subprocess
import sys
import time

import pytest

RECIPE = """
[[pass]]
name = "share"
bits = 4

[[pass]]
name = "finetune"
epochs = {epochs}
"""
PROGRAM = [sys.executable, "-c", "import sys; from hashpress.cli.main import run; sys.exit(run())"]


def compress(model, folder, out, *more, **settings):
    words = ["compress", model, "--recipe", folder / "r.toml", "--data", "digits?limit=300", "-o", out, *more]
    return [*PROGRAM, *map(str, words)]


def done(command, code=0):
    found = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert found.returncode == code, found.stderr
    return found


def parts(folder):
    return [path.name for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_ends_in_the_same_bytes(model_file, tmp_path, how):
    (tmp_path / "r.toml").write_text(RECIPE.format(epochs=15))
    whole, out = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    done(compress(model_file, tmp_path, whole))

    process = subprocess.Popen(compress(model_file, tmp_path, out), stderr=subprocess.PIPE, text=True)
    step = tmp_path / "out.safetensors.work" / "step01.safetensors"
    deadline = time.monotonic() + 100
    while not step.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -9)
    if how == signal.SIGINT:
        assert err.startswith("hashpress: interrupted; ")
        assert err.endswith(" --resume\n")
        assert err.count("\n") == 1
    else:
        assert err == ""
    assert not out.exists()

    done(compress(model_file, tmp_path, out, "--resume"))
    assert out.read_bytes() == whole.read_bytes()
    assert not step.parent.exists()
    assert parts(tmp_path) == []


def test_another_run_is_not_resumed(model_file, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.format(epochs=1))
    work = tmp_path / "out.safetensors.work"
    work.mkdir()
    (work / "run.json").write_text("{}")
    found = done(compress(model_file, tmp_path, tmp_path / "out.safetensors", "--resume"), code=2)
    assert found.stderr.startswith("hashpress: cannot resume")
    assert found.stderr.count("\n") == 1


def test_a_full_disk_is_one_line(model_file, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE.format(epochs=1))
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", tiny], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount a tiny file system here")
    try:
        found = done(compress(model_file, tmp_path, tiny / "out.safetensors"), code=2)
        assert "No space left on device" in found.stderr
        assert found.stderr.count("\n") == 1
        assert not (tiny / "out.safetensors").exists()
        assert parts(tiny) == []
    finally:
        subprocess.run(["umount", tiny], check=True)


@pytest.mark.slow
def test_a_training_that_was_stopped_ends_in_the_same_bytes(tmp_path):
    words = ["train", "--encoder", "lenet300", "--system", "dlbhc", "--bits", "8", "--data", "digits?limit=300"]
    command = [*PROGRAM, *words, "--epochs", "15", "-o"]
    whole, out = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    done([*command, str(whole)])

    process = subprocess.Popen([*command, str(out)])
    checkpoint = tmp_path / "out.checkpoint"
    deadline = time.monotonic() + 100
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait(60) == -9
    assert not out.exists()

    done([*command, str(out), "--resume"])
    assert out.read_bytes() == whole.read_bytes()
    assert not checkpoint.exists()
