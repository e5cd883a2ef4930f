"""Progress of long work, without the library printing: whoever has a terminal installs a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Reporter = Callable[[str, int, int | None], None]  # (what, done, of how many)

_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send the progress of all work in this block to ``reporter``."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Put ``name``, such as ``step 2/4 share``, before the description of all work in this block."""
    token = _stage.set(name)
    try:
        yield
    finally:
        _stage.reset(token)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items``, reporting how many are done."""
    report = _reporter.get()
    if report is None:
        yield from items
        return
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    what = f"{_stage.get()}: {what}" if _stage.get() else what
    report(what, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        report(what, done, total)
