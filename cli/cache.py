"""hashpress cache: list or clear the decoded images kept on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console, print_json, table

NAME = "cache"
EXAMPLES = options.examples("cache", "cache clear", "cache --json")


def verb(
    action: Annotated[str, typer.Argument(metavar="[show|clear]", help="show, or clear to delete all of it.")] = "show",
    json: options.Json = False,
) -> None:
    """Show where decoded images are kept, of which data and how large; clear deletes them (they are made again when needed).

    The environment variable HASHPRESS_CACHE names another folder.
    """
    from ..core.data.cache import cache_dir, cache_entries, clear_cache
    from ..core.errors import lookup
    from ..core.units import format_bytes

    act = lookup({"show": cache_entries, "clear": clear_cache}, action, "action")
    found = act()
    total = sum(entry.bytes for entry in found)
    if json:
        entries = [{"source": entry.source, "path": str(entry.path), "bytes": entry.bytes} for entry in found]
        print_json({"path": str(cache_dir() / "images"), "bytes": total, "action": action, "entries": entries})
        return
    verb_ = "deleted" if action == "clear" else "decoded images in"
    console().print(f"{verb_} {cache_dir() / 'images'}: {len(found)} data sets, {format_bytes(total)}", markup=False)
    rows = [(entry.source or "(unknown)", format_bytes(entry.bytes), entry.path.name) for entry in found]
    if rows:
        console().print(table("", ("data", "size", "folder"), rows, right=(1,)))
