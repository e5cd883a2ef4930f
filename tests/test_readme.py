"""README says what the result files say, and names only commands and files that exist."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from hashpress.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_one_of_the_results():
    results = ROOT / "benchmarks" / "results" / "spine.json"
    place = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    script = importlib.util.module_from_spec(place)
    place.loader.exec_module(script)
    assert script.rewritten(README, json.loads(results.read_text(encoding="utf-8"))) == README


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
