"""Every ending of the program is an exit code and at most one line; JSON has stdout to itself."""

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from hashpress.cli.main import app, run
from hashpress.core.errors import DeviceError
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.modelfile.file import load
from PIL import Image
from program import refused
from reports import report

VERBS = [str(command.name) for command in app.registered_commands]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report().save("report.json")
    report("base.bundle", file=1500).save("base.json")
    (tmp_path / "wide.toml").write_text('storage.file = "1 MB"')
    (tmp_path / "tight.toml").write_text('storage.file = "1 kB"\nlatency.p50 = { limit = "1 ms", level = "warn" }')
    return tmp_path


def test_help_is_quick_and_names_all_verbs():
    heavy = "{'torch', 'tvm', 'numpy', 'matplotlib', 'sklearn'}"
    code = f"import sys; from hashpress.cli.main import run; c = run(['--help']); sys.exit(c or len({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for verb in VERBS:
        assert f" {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_worked_examples(capsys, verb):
    assert run([verb, "--help"]) == 0
    assert f"$ hashpress {verb}" in capsys.readouterr().out


def test_version(capsys):
    assert run(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "hashpress"
    assert version[0].isdigit()


def test_check_within_budget(files, capsys):
    assert run(["check", "report.json", "--budget", "wide.toml"]) == 0
    assert capsys.readouterr() == ("small.bundle: within budget\n", "")


def test_check_over_budget_is_3_and_says_why(files, capsys):
    assert run(["check", "report.json", "--budget", "tight.toml", "--why"]) == 3
    out, err = capsys.readouterr()
    assert "storage.file: 1.2 kB, budget 1 kB (200 B over, measured)" in out
    assert "encoder.conv1 (values)" in out
    assert err.startswith("hashpress: over budget: storage.file")
    assert err.count("\n") == 1


def test_warnings_alone_are_0(files, capsys):
    (files / "warn.toml").write_text('latency.p50 = { limit = "1 ms", level = "warn" }')
    assert run(["check", "report.json", "--budget", "warn.toml"]) == 0
    assert capsys.readouterr().out.startswith("warn  latency.p50")


@pytest.mark.parametrize("style", ["markdown", "github"])
def test_check_for_ci(files, capsys, style):
    assert run(["check", "report.json", "--budget", "tight.toml", "--format", style, "--baseline", "base.json"]) == 3
    assert capsys.readouterr().out.startswith("### " if style == "markdown" else "::error ")


def test_report_writes_the_page(files, capsys):
    assert run(["report", "base.json", "report.json", "-o", "r.html"]) == 0
    assert (files / "r.html").read_text().startswith("<!doctype html>")


def test_report_into_a_missing_folder(files, capsys):
    assert "nowhere" in refused(capsys, "report", "report.json", "-o", "nowhere/r.html")


@pytest.mark.parametrize(
    "arguments",
    [["ls", "--json"], ["show", "MODEL", "--json"], ["evaluate", "MODEL", "--data", "digits?limit=60", "--json"]],
)
def test_json_has_stdout_to_itself(model_file, capsys, arguments):
    assert run([str(model_file) if word == "MODEL" else word for word in arguments]) == 0
    out, _ = capsys.readouterr()
    assert isinstance(json.loads(out), dict)


def test_check_in_json(files, capsys):
    assert run(["check", "report.json", "--budget", "tight.toml", "--json"]) == 3
    out, _ = capsys.readouterr()
    assert [entry["metric"] for entry in json.loads(out)] == ["storage.file", "latency.p50"]


def test_show_adds_up(model_file, capsys):
    assert run(["show", str(model_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["bytes"] == model_file.stat().st_size == sum(found["classes"].values()) == sum(found["tensors"].values())
    )


def test_show_writes_recipes_out(tmp_path, capsys):
    assert run(["show", "recipe:smallest"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "x.toml").write_text(text)
    for name in (tmp_path / "x.toml", f"recipe:{tmp_path / 'x.toml'}"):
        assert run(["show", str(name)]) == 0
        assert capsys.readouterr().out == text
        assert run(["show", str(name), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == tomllib.loads(text)
    (tmp_path / "x.toml").write_text("[[pass]]")
    assert "step 1: no name" in refused(capsys, "show", tmp_path / "x.toml")
    assert "none.toml" in refused(capsys, "show", "none.toml")


def test_show_needs_no_torch(model_file):
    code = (
        "import sys; from hashpress.cli.main import run\n"
        f"code = run(['show', {str(model_file)!r}]); sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_encode_arrays_images_and_specs(model_file, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    Image.fromarray(pixels[0, 0]).save(tmp_path / "x.png")
    out = tmp_path / "codes.npy"
    assert (
        run(["encode", str(model_file), str(tmp_path / "x.npy"), str(tmp_path / "x.png"), "digits", "-o", str(out)])
        == 0
    )
    codes = np.load(out)
    assert codes.shape == (5 + 1 + 1797, 2)
    expected = pack(outputs(load(model_file), pixels))
    np.testing.assert_array_equal(codes[:5], expected)
    np.testing.assert_array_equal(codes[5], expected[0])


def test_unexpected_faults_are_one_line_and_a_hint(monkeypatch, capsys):
    def broken(*arguments, **settings):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("hashpress.cli.ls.listing", broken)
    monkeypatch.delenv("HASHPRESS_DEBUG", raising=False)
    line = refused(capsys, "ls", code=1)
    assert "ZeroDivisionError: division by zero" in line
    assert "HASHPRESS_DEBUG=1" in line
    monkeypatch.setenv("HASHPRESS_DEBUG", "1")
    assert run(["ls"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (DeviceError("the board does not answer"), 4, "the board does not answer"),
        (OSError(28, "No space left on device", "big.bin"), 2, "no space left on the device for big.bin"),
        (PermissionError(13, "Permission denied", "secret"), 2, "secret: Permission denied"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_other_endings(monkeypatch, capsys, fault, code, message):
    def broken(*arguments, **settings):
        raise fault

    monkeypatch.setattr("hashpress.cli.ls.listing", broken)
    assert message in refused(capsys, "ls", code=code)


def test_a_pipe_that_nobody_reads_is_quiet():
    command = (
        f'{sys.executable} -c \'import sys; from hashpress.cli.main import run; sys.exit(run(["ls", "figures"]))\''
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("141", "0")


def test_the_verbs_of_the_design_are_there():
    wanted = "demo ls train import show evaluate compress compile profile check report encode export"
    assert set(wanted.split()) <= set(VERBS)


def test_compress_dry_run_writes_nothing(model_file, tmp_path, capsys):
    words = ["compress", str(model_file), "--recipe", "deep-compression", "--data", "digits?limit=200"]
    for more in (["-o", str(tmp_path / "out.safetensors")], []):
        assert run([*words, *more, "--dry-run", "--json"]) == 0
        steps = json.loads(capsys.readouterr().out)["steps"]
        assert steps[0]["name"] == "start"
        assert steps[-1]["figures"]["bytes"] < steps[0]["figures"]["bytes"]
        assert list(tmp_path.iterdir()) == []
    assert "give it with -o, or preview the steps with --dry-run" in refused(capsys, *words)


def test_settings_of_the_system_reach_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--system", "dpsh", "--encoder", "lenet300", "--bits", "8", "--data", "digits?limit=60"]
    assert run([*words, "--epochs", "1", "--set", "eta=0.25", "--clip", "0", "-o", "m.safetensors"]) == 0
    assert load("m.safetensors").history[-1].settings["eta"] == 0.25
    capsys.readouterr()
    assert "write NAME=NUMBER" in refused(capsys, *words, "--set", "eta", "-o", "n.safetensors")
    assert "eta2" in refused(capsys, *words, "--set", "eta2=1", "-o", "n.safetensors")
    assert not (tmp_path / "n.safetensors").exists()
