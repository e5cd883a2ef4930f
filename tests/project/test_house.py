"""The house: imports run downwards, files and functions stay readable, no test is without a check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "core": (),
    "hashnets": ("core",),
    "modelfile": ("core", "hashnets"),
    "compress": ("core", "hashnets", "modelfile"),
    "targets": ("core", "hashnets", "modelfile"),  # a device needs the file, never a pass
    "profiling": ("core", "hashnets", "modelfile", "targets"),
    "cli": ("core", "hashnets", "modelfile", "compress", "targets", "profiling", "api"),
    "api": ("core", "hashnets", "modelfile", "compress", "targets", "profiling", "cli"),
}
FLOORS = tuple(MAY_IMPORT)
ROOF = "api"  # the folder of the package ``hashpress`` itself
BARE = ("core", "hashnets", "modelfile", "modelfile/coding", "compress", "targets", "profiling")  # import nothing
MODULE_LINES, FUNCTION_LINES, FOLDER_FILES = 400, 60, 20


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
        f"{named(path)}:{line} imports {name}, {own} may import {', '.join(MAY_IMPORT[own]) or 'nothing'}"
        for line, name in imports(path)
        if floor_of(name) not in (own, *MAY_IMPORT[own])
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
        ("from ..compress.base import Pass", "targets", True),
        ("from ..targets.table import TARGETS", "compress", True),
        ("from ..compress.observe.macs import count", "profiling", True),
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


def module_name(path: Path) -> str:
    parts = [*package(path), *([path.stem] if path.stem != "__init__" else [])]
    return ".".join(parts)


def test_no_imports_in_a_circle():
    names = {module_name(path) for path in PACKAGES}
    arrows: dict[str, set[str]] = {}
    for path in PACKAGES:
        own = module_name(path)
        targets = {name if name in names else name.rpartition(".")[0] for _, name in imports(path)}
        arrows[own] = {target for target in targets & names if target != own}
    while arrows:  # what imports nothing that is still here cannot stand on a circle
        free = [name for name, targets in arrows.items() if not targets & arrows.keys()]
        assert free, f"circle among {sorted(arrows)}"
        for name in free:
            del arrows[name]


def test_no_folder_is_crowded():
    counts = Counter(path.parent for path in PACKAGES if path.name != "__init__.py")
    assert {named(folder): count for folder, count in counts.items() if count > FOLDER_FILES} == {}


def test_no_class_name_means_two_things():
    places: dict[str, list[str]] = {}
    for path in PACKAGES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(named(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


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
