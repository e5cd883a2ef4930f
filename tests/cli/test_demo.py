"""The demo: every line of it is a command that people can type, and it ends well."""

import os
import subprocess
import sys

import pytest
from hashpress.cli import demo
from hashpress.cli.main import app
from hashpress.compress.recipe.load import load_recipe
from hashpress.profiling.budget import load_budget
from hashpress.profiling.report import load_report


def test_its_files_are_a_legal_recipe_and_budget(tmp_path):
    for name, text in demo.FILES.items():
        (tmp_path / name).write_text(text)
    load_recipe(tmp_path / "recipe.toml").check()
    assert len(load_budget(tmp_path / "budget.toml").limits) == 6


def test_its_commands_are_verbs_and_their_files_lie_in_one_folder(tmp_path):
    verbs = {command.name for command in app.registered_commands}
    for line in demo.COMMANDS.strip().splitlines():
        words = demo.arguments_of(line, tmp_path, 0, 1)
        assert words[0] in verbs
        assert all(word.startswith(str(tmp_path)) for word in words if "." in word and not word.startswith("0."))


@pytest.mark.slow
def test_it_ends_with_a_report(tmp_path):
    program = "import sys; from hashpress.cli.main import run; sys.exit(run())"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo"],
        cwd=tmp_path, env={**os.environ, "CI": "true"}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "report: hashpress-demo/report.html"
    folder = tmp_path / "hashpress-demo"
    report = load_report(folder / "small.json")
    assert report.figures["storage.file"].value < report.figures["storage.fp32"].value / 14
    assert report.figures["quality.map"].value > 0.9
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
