"""The house: imports run downwards, files and functions stay readable, no test is without a check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    name: floor for floor, name in enumerate(("core", "hashnets", "compress", "targets", "profiling", "cli", "api"))
}
ROOF = "api"  # the folder of the package ``hashpress`` itself
BARE = ("core", "hashnets", "compress", "compress/coding", "targets", "profiling")  # import nothing by themselves
MODULE_LINES, FUNCTION_LINES = 300, 60


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


PACKAGES = modules(*FLOORS)
EVERYTHING = [*PACKAGES, *modules("tests", "benchmarks"), ROOT / "setup.py"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=named(path))


def package(path: Path) -> list[str]:
    """The package a module lies in, as ``["hashpress", "core", "data"]``."""
    parts = list(path.relative_to(ROOT).parent.parts)
    return ["hashpress", *(parts[1:] if parts[0] == ROOF else parts)]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything of ``hashpress`` that a module imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "hashpress")
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package(path)
            base = base[: len(base) - node.level + 1] + (node.module or "").split(".") * bool(node.module)
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hashpress":
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def floor_of(name: str) -> str:
    """The folder of an imported name; what is no folder belongs to the roof."""
    second = [*name.split("."), ""][1]
    return second if second in FLOORS and second != ROOF else ROOF


def upward(path: Path) -> list[str]:
    own = path.relative_to(ROOT).parts[0]
    return [
        f"{named(path)}:{line} imports {name}, {floor_of(name)} lies above {own}"
        for line, name in imports(path)
        if FLOORS[floor_of(name)] > FLOORS[own]
    ]


def test_imports_run_downwards():
    assert [fault for path in PACKAGES for fault in upward(path)] == []


def test_imports_between_folders_are_relative():
    absolute = [
        f"{named(path)}:{node.lineno}"
        for path in PACKAGES
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "hashpress" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "hashpress")
    ]
    assert absolute == []


@pytest.mark.parametrize(
    ("text", "folder", "fault"),
    [
        ("from ..hashnets.codes import pack", "core", True),
        ("from ...compress import layers", "hashnets/systems", True),
        ("def f():\n    from ..targets import table", "hashnets", True),
        ("from .. import load", "cli", True),
        ("import hashpress.cli.main", "profiling", True),
        ("from ..core.model import HashModel", "hashnets", False),
        ("from . import edits", "compress", False),
        ("from ..errors import DataError", "core/data", False),
        ("from .cli.main import run", "api", False),
        ("import numpy as np", "core", False),
    ],
)
def test_the_arrow_test_sees_arrows(monkeypatch, text, folder, fault):
    path = ROOT / folder / "imagined.py"
    monkeypatch.setitem(globals(), "tree", lambda _: ast.parse(text))
    assert bool(upward(path)) == fault


def test_no_module_is_long():
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_no_function_is_long():
    bodies = {
        f"{named(path)}:{f.name}": (f.body[0].lineno, f.end_lineno) for path in EVERYTHING for f in functions(path)
    }
    lengths = {name: last - first + 1 for name, (first, last) in bodies.items()}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", BARE)
def test_packages_import_nothing_by_themselves(folder):
    body = tree(ROOT / folder / "__init__.py").body
    assert [type(node).__name__ for node in body] == ["Expr"]
    assert isinstance(body[0].value.value, str)


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in PACKAGES}
    assert [named(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    assert not (ROOT / "tests" / "__init__.py").exists()
    assert not (ROOT / "hashpress").exists()


def test_importing_hashpress_is_light():
    code = (
        "import sys, hashpress; sys.exit(' '.join({'torch', 'tvm', 'sklearn', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def checks(function: ast.AST) -> bool:
    """Whether a test asserts, expects an exception, or calls something named ``assert_...`` or ``check_...``."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"raises", "warns"} or called.startswith(("assert", "check")):
                return True
    return False


def test_no_test_is_without_a_check():
    tests = [(path, f) for path in modules("tests") for f in functions(path) if f.name.startswith("test")]
    assert [f"{named(path)}:{f.name}" for path, f in tests if not checks(f)] == []
    silent = [path for path in modules("tests") if path.name.startswith("test_") and not checks(tree(path))]
    assert [named(path) for path in silent] == []
