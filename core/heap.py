"""Memory that nothing uses any more goes back to the system.

glibc keeps freed blocks of up to 32 MB for itself, between small ones that are still in use. A pass over large layers
leaves more behind in this way than the network takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


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
