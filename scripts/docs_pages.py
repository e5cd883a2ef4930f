"""Pages of the documentation that are written from the code itself, as an mkdocs hook: tables, commands, recipes."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer
from hashpress.cli.ls import listing
from hashpress.cli.main import app
from hashpress.compress.passes import PASSES
from hashpress.compress.recipe.load import load_recipe, named_recipes
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "hashnets", "modelfile", "compress", "targets", "profiling", "cli")
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")  # links to files of the repository that are not part of the site
MARKUP = re.compile(r"\[/?(?:bold|dim|cyan|bold cyan)\]")
PIPELINE = (  # what a model goes through, and the kind of `hashpress ls` that says what there is to choose from
    ("train", "systems"),
    ("import", "formats"),
    ("compress", "passes"),
    ("compile", "targets"),
    ("profile", "figures"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    files.append(File.generated(config, "reference/recipes.md", content=recipes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # mkdocs passes them by name
    """Fill in tables of the code, and name files that lie outside of the site instead of linking to them."""
    markdown = markdown.replace("<!-- pipeline -->", pipeline()).replace("<!-- modules -->", modules())
    return OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2]}`)", markdown)


def pipeline() -> str:
    """Return the table of what each stage of the pipeline can choose from."""
    rows = ["| stage | choose from | |", "|---|---|---|"]
    held = listing(None)
    for verb, kind in PIPELINE:
        rows.append(f"| `hashpress {verb}` | {kind} | {', '.join(f'`{name}`' for name in held[kind])} |")
    return "\n".join(rows)


def modules() -> str:
    """Return a table of the files of each folder with the first line of their docstrings."""
    parts = []
    for folder in FOLDERS:
        rows = [f"\n### {folder}/\n", "| file | |", "|---|---|"]
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if path.name != "__init__.py":
                rows.append(f"| `{path.relative_to(ROOT / folder)}` | {cell(escaped(text.splitlines()[0]))} |")
        parts += rows
    return "\n".join(parts)


def commands() -> str:
    """Return one section for each verb: what it does, how it is called, its options, examples."""
    program: Any = typer.main.get_command(app)
    parts = ["# Commands\n", program.help, "\n", plain(program.epilog or "")]
    for name, command in program.commands.items():
        context = typer.Context(command, info_name=f"hashpress {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        parts += [f"\n## hashpress {name}\n", plain(command.help or ""), f"\n```\nhashpress {name} {usage}\n```\n"]
        rows = [row(parameter) for parameter in command.params]
        parts += ["| option | meaning | default |", "|---|---|---|", *rows] if rows else []
        lines = [line.strip() for line in plain(command.epilog or "").splitlines() if line.strip().startswith("$")]
        parts += ["\n```", *lines, "```"] if lines else []
    return "\n".join(parts) + "\n"


def row(parameter: Any) -> str:
    """Return one line of a table of options."""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    hidden = default is None or default is False or default == () or callable(default) or parameter.required
    shown = "" if hidden else f"`{default}`"
    return f"| {names} | {cell(plain(getattr(parameter, 'help', None) or ''))} | {shown} |"


def recipes() -> str:
    """Return the recipes that come with hashpress, and all settings of the passes with their defaults."""
    parts = ["# Recipes and passes\n", "`hashpress show recipe:NAME` prints a recipe with every setting written out.\n"]
    parts += ["| recipe | passes | |", "|---|---|---|"]
    for name in named_recipes():
        recipe = load_recipe(name)
        parts.append(f"| `{name}` | {', '.join(step for step, _ in recipe.passes())} | {cell(recipe.about)} |")
    for name, kind in PASSES.items():
        about = (kind.__doc__ or "").strip()
        module = __import__(kind.__module__, fromlist=["__doc__"]).__doc__ or ""
        parts += [f"\n## {name}\n", module.strip(), f"\n{about}\n"]
        rows = [f"| `{item.name}` | `{item.type}` | `{item.default!r}` |" for item in fields(kind)]  # type: ignore[arg-type]  # passes are dataclasses
        parts += [
            "| setting | type | default |",
            "|---|---|---|",
            *(line.replace(" | None", " or None") for line in rows),
        ]
    return escaped("\n".join(parts)) + "\n"


def plain(text: str) -> str:
    """Return a text of the command line without its marks of style."""
    return MARKUP.sub("", text).replace("\\[", "[")


def cell(text: str) -> str:
    """Return a text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def escaped(text: str) -> str:
    """Return Markdown in which the code marks of docstrings are Markdown's own."""
    return re.sub(r":(?:mod|func|class|meth):`\.*([^`]+)`", r"`\1`", text).replace("``", "`")
