"""README says what the result files say, and names only commands and files that exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from hashpress.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_one_of_the_results():
    results = ROOT / "benchmarks" / "results" / "spine.json"
    place = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    script = importlib.util.module_from_spec(place)
    place.loader.exec_module(script)
    assert script.rewritten(README, json.loads(results.read_text(encoding="utf-8"))) == README


def test_verbs_and_options_of_the_examples_exist():
    verbs = {command.name for command in app.registered_commands}
    named = re.findall(r"^\$ hashpress (\w+)", README, re.MULTILINE)
    assert len(named) > 5
    assert set(named) <= verbs


@pytest.mark.parametrize("link", re.findall(r"\]\((\w[^)]*)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("command", ["scripts/demo", "scripts/test"])
def test_the_two_commands_can_be_run(command):
    assert f"\n{command} " in README
    assert (ROOT / command).stat().st_mode & 0o111
