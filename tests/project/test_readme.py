"""README says what the result files say, and names only commands and files that exist."""

import ast
import json
import re
import runpy
import shlex
from pathlib import Path

import hashpress
import pytest
import typer
from hashpress.cli.main import app

from benchmarks import readme

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_one_of_the_results():
    results = ROOT / "benchmarks" / "results" / "spine.json"
    assert readme.rewritten(README, json.loads(results.read_text(encoding="utf-8")), readme.counted()) == README


COMMANDS = typer.main.get_command(app).commands
HELP = [
    line.replace("\\[", "[")
    for command in COMMANDS.values()
    for line in re.findall(r"\$ hashpress (.+)", command.epilog or command.help or "")
]
LINES = re.findall(r"^\$ hashpress (.+?)(?:  +#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("line", [*LINES, *HELP])
def test_the_command_lines_of_the_examples_are_understood(line):
    verb, *words = shlex.split(re.split(r" (?:\||>>?) ", line)[0])
    command = COMMANDS[verb]
    context = command.make_context(verb, words)  # raises for an option that does not exist and an argument too many
    assert context.params
    assert len(LINES) > 5
    assert len(HELP) > len(COMMANDS)


@pytest.mark.parametrize("link", re.findall(r"\]\((\w[^)]*)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("command", ["scripts/demo", "scripts/test"])
def test_the_two_commands_can_be_run(command):
    assert f"\n{command} " in README
    assert (ROOT / command).stat().st_mode & 0o111


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    runpy.run_path("page.py")
    whole, small = map(float, capsys.readouterr().out.split())
    assert whole > 0.9
    assert small > 0.9
    assert (tmp_path / "small.safetensors").stat().st_size < 30_000
    assert (tmp_path / "small.bundle").is_dir()
    assert (tmp_path / "free.safetensors.ledger.json").exists()


def test_the_public_names_are_those_that_type_checkers_see():
    body = ast.parse((ROOT / "api" / "__init__.py").read_text(encoding="utf-8")).body
    block = next(node for node in body if isinstance(node, ast.If))
    assert all(isinstance(line, ast.ImportFrom) and line.level == 1 for line in block.body)
    seen = {alias.name: line.module for line in block.body for alias in line.names}
    assert seen == hashpress._HOMES
    things = {name: getattr(hashpress, name) for name in seen}
    assert all(thing.__name__ == name for name, thing in things.items() if not name.isupper())
    assert {kind.__name__ for kind in hashpress.PASSES.values()} <= set(seen)
