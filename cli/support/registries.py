"""Registries read from their source code, so that listing them imports neither torch nor TVM."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from ...core.errors import HashpressError

PACKAGE = Path(__file__).resolve().parents[2]
API = "api"  # the folder of ``hashpress`` itself; all others have the names of their packages


def entries(module: str, name: str) -> dict[str, str]:
    """Return the keys of the literal dictionary ``name`` in ``module`` (such as ``compress.passes``) with a description.

    The description is ``about=...`` or the last string argument of the value, or otherwise the first docstring line of the
    module that defines the value, which names the paper.

    Raises:
        HashpressError: the registry is not a literal dictionary.
    """
    path = _file(module)
    tree = _tree(path)
    table = next(
        node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and _name(node) == name
    )
    if not isinstance(table, ast.Dict):
        raise HashpressError(
            f"{name} of {module} must be a literal dictionary, because it is listed without importing the module"
        )
    homes = _imports(tree, module, path)
    return {
        str(key.value): _about(value, homes)
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant)
    }


def _file(module: str) -> Path:
    """Return the file of a module of hashpress."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


def _imports(tree: ast.Module, module: str, path: Path) -> dict[str, str]:
    """Return the module of each name that is imported relatively."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    homes: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            homes |= {alias.asname or alias.name: ".".join(filter(None, base)) for alias in node.names}
    return homes


def _about(value: ast.expr, homes: dict[str, str]) -> str:
    if isinstance(value, ast.Call):
        texts = [argument.value for argument in value.args if isinstance(argument, ast.Constant)]
        texts += [
            word.value.value for word in value.keywords if word.arg == "about" and isinstance(word.value, ast.Constant)
        ]
        return str(texts[-1]) if texts else ""
    if isinstance(value, ast.Name) and value.id in homes:
        return _summary(_file(homes[value.id]))
    return ""


def _summary(path: Path) -> str:
    """Return the first line of a module's docstring; the rest of the module is not parsed, which would take longer."""
    text = path.read_text(encoding="utf-8")
    return first_line(text[3 : text.index('"""', 3)]) if text.startswith('"""') else ""


def first_line(text: str) -> str:
    """Return the first line of a docstring without code markup."""
    return next(iter(text.strip().splitlines()), "").replace("``", "")
