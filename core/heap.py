"""Memory that nothing uses any more goes back to the system.

glibc keeps freed blocks of up to 32 MB for itself, between small ones that are still in use. A pass over large layers
leaves more behind in this way than the network takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")


def released(items: Iterable[Item]) -> Iterator[Item]:
    """Yield ``items``; before each, and at the end, what the work on the one before left behind goes back to the system.

    For loops whose steps each take and free a lot, such as layers, or batches of images.
    """
    for item in items:
        give_back()
        yield item
    give_back()


def give_back() -> None:
    """Return free pages to the system, where the C library can do so (glibc)."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows takes no None
        return None
