"""The gate of examples/ci-regression fails when the model grows and passes again; the fixture of pytest does the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from hashpress.cli.main import app, run
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.modelfile.file import save
from hashpress.profiling.pytest_plugin import hold
from reports import report

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "ci-regression"


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, str]:
    """Reports of a network and of one whose code is four times as wide, made as ``gate.sh`` makes them."""
    folder, found = tmp_path_factory.mktemp("gate"), {}
    for name, bits in (("main", 16), ("grown", 64)):
        model, bundle, found[name] = (str(folder / f"{name}.{kind}") for kind in ("safetensors", "bundle", "json"))
        save(untrained(Arch("lenet300", bits, ImageInput((1, 8, 8), (0.3,), (0.35,))), seed=0), model)
        assert run(["compile", model, "-o", bundle]) == 0
        quick = ["--repeats", "20", "--seconds", "0.1", "--processes", "1"]
        assert run(["profile", bundle, *quick, "-o", found[name]]) == 0
    return found


@pytest.mark.parametrize(("change", "code"), [("grown", 3), ("main", 0)])
def test_the_gate_fails_when_the_model_grows_and_passes_again(reports, change, code, capsys):
    assert (
        run(
            ["check", reports[change], "--budget", str(EXAMPLE / "budget.toml"), "--baseline", reports["main"], "--why"]
        )
        == code
    )
    out = capsys.readouterr().out
    assert ("head (values) grew by" in out) == (code == 3)


@pytest.mark.parametrize("file", ["examples/ci-regression/gate.sh", "ci/action.yml", "ci/gitlab.yml"])
def test_the_gate_calls_what_exists(file):
    """Every command is one of the program, with options that it has."""
    commands = typer.main.get_command(app).commands
    lines = re.findall(r"^[\s-]*hashpress (\w+) (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert {verb for verb, _ in lines} == {"compile", "profile", "check"}
    for verb, rest in lines:
        known = {flag for option in commands[verb].params for flag in option.opts}
        assert set(re.findall(r"(?<=\s)--?[a-z]+", f" {rest.split('>')[0]}")) <= known


def test_the_fixture_of_pytest():
    hold(report(), {"storage.file": "2 kB"})
    with pytest.raises(pytest.fail.Exception, match=r"over budget: storage\.file: 1\.2 kB, budget 1 kB"):
        hold(report(), {"storage.file": "1 kB"})
    with pytest.warns(UserWarning, match="over budget"):
        hold(report(), {"storage.file": {"limit": "1 kB", "level": "warn"}})
    rows = [{"p50": value} for value in (1.6, 1.3, 1.4, 1.7)]
    with pytest.raises(pytest.skip.Exception, match="inconclusive"):
        hold(report(timing={"processes": rows}), {"latency.p50": "1.45 ms"})


def test_pytest_finds_the_fixture():
    assert "hashpress = hashpress.profiling.pytest_plugin" in (ROOT / "setup.py").read_text(encoding="utf-8")
