"""What a pass has worked out is not worked out again a moment later, where its caller says that nothing changes between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Known = list[tuple[Any, Any]]  # questions and their answers

_KNOWN: ContextVar[tuple[object, Known] | None] = ContextVar("known", default=None)


@contextmanager
def remembering(about: object) -> Iterator[None]:
    """Let what is marked with :func:`once` answer the same question ``about`` a model once in this block.

    The model must not change meanwhile.
    """
    token = _KNOWN.set((about, []))
    try:
        yield
    finally:
        _KNOWN.reset(token)


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function, or a method of a value, whose answer is kept within :func:`remembering`.

    Arguments are the same where they are equal: models and data sets only with themselves. Nobody may change the answer.
    """

    @wraps(function)
    def answered(*args: P.args, **kwargs: P.kwargs) -> R:
        about, known = _KNOWN.get() or (None, [])
        if about is None or not any(value is about for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        question = (function, args, kwargs)
        for asked, answer in known:
            if asked == question:
                return answer  # type: ignore[no-any-return]  # the answer of this function
        answer = function(*args, **kwargs)
        known.append((question, answer))
        return answer

    return answered
