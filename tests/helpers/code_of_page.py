"""The files that a documentation page shows: fenced blocks that begin with a comment naming the file."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"#\s*(?P<name>[\w./-]+\.\w+)\s*\n")


def code_of_page(path: str | Path) -> dict[str, str]:
    """Return the text of each file by its name, with the comment; blocks that name no file are left out."""
    files: dict[str, str] = {}
    for block in FENCE.finditer(Path(path).read_text(encoding="utf-8")):
        code = block["code"]
        if name := NAME.match(code):
            assert name["name"] not in files, f"{path} shows {name['name']} twice"
            files[name["name"]] = code
    return files


def commands_of_page(path: str | Path) -> list[str]:
    """Return the lines that call the program, without ``hashpress``, from blocks without a language."""
    blocks = [
        block["code"] for block in FENCE.finditer(Path(path).read_text(encoding="utf-8")) if not block["language"]
    ]
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.removeprefix("hashpress ") for line in lines if line.startswith("hashpress ")]
