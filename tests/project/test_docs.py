"""The documentation: what is generated matches the program, and every link in a page of the repository leads somewhere."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from hashpress.cli.main import app
from hashpress.compress.passes import PASSES
from hashpress.compress.recipe.load import named_recipes

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
GENERATED = ("reference/commands.md", "reference/recipes.md")  # written while the site is built
OUTPUT = re.compile(r"^\$ hashpress (\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def pages():
    place = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts" / "docs_pages.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if link not in GENERATED and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    files = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", page.read_text(encoding="utf-8")))
    assert sorted(file for file in files if not (ROOT / file).exists()) == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f": {page.name}" not in navigation] == []


def test_every_command_and_every_option_is_on_the_page(pages):
    text = pages.commands()
    program = typer.main.get_command(app)
    for name, command in program.commands.items():
        section = text.split(f"\n## hashpress {name}\n")[1].split("\n## ")[0]
        missing = [
            flag for option in command.params for flag in option.opts if flag[0] == "-" and f"`{flag}`" not in section
        ]
        assert missing == []
        assert f"$ hashpress {name}" in section


def test_every_recipe_and_every_setting_is_on_the_page(pages):
    text = pages.recipes()
    assert [name for name in named_recipes() if f"| `{name}` |" not in text] == []
    for name, kind in PASSES.items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert [field.name for field in fields(kind) if f"| `{field.name}` |" not in section] == []


def test_every_file_is_in_the_architecture(pages):
    text = pages.modules()
    assert "| `recipe/recipe.py` | " in text
    for folder in pages.FOLDERS:
        files = [path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
        assert [str(path) for path in files if f"| `{path.relative_to(ROOT / folder)}` | " not in text] == []


def test_the_tutorial_shows_output_and_uses_commands_that_exist():
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    verbs = set(OUTPUT.findall(page))
    assert {"import", "train", "compress", "evaluate", "compile", "profile", "check", "report"} <= verbs
    assert verbs <= set(typer.main.get_command(app).commands)
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    assert all(len(block.splitlines()) > block.count("$ hashpress") for block in blocks), "run scripts/tutorial"
