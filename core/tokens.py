"""Tokenisers, vocabularies and token ids of texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

PADDING, UNKNOWN, FIRST = 0, 1, 2  # token ids: after the end of a text, not in the vocabulary, first of the vocabulary
WORD = re.compile(r"\w+(?:[-'+.]\w+)*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; ``x-ray``, ``don't`` and ``3.5`` are one word each."""
    return WORD.findall(text.lower())


def characters(text: str) -> list[str]:
    """Return the characters of a text in lower case, runs of white space as one blank."""
    return list(" ".join(text.lower().split()))


TOKENISERS: dict[str, Callable[[str], list[str]]] = {"words": words, "characters": characters}


def build_vocabulary(texts: Iterable[str], tokeniser: str, size: int, least: int = 2) -> tuple[str, ...]:
    """Return the ``size`` most frequent tokens that occur ``least`` times or more, by frequency, then by alphabet."""
    counts = Counter(token for text in texts for token in TOKENISERS[tokeniser](text))
    ranked = sorted((item for item in counts.items() if item[1] >= least), key=lambda item: (-item[1], item[0]))
    return tuple(token for token, _ in ranked[:size])


def token_ids(texts: Sequence[str] | np.ndarray, tokeniser: str, ids: Mapping[str, int], length: int) -> np.ndarray:
    """Return token ids int64 (n, length): texts are cut at ``length`` tokens and filled up with ``PADDING``."""
    rows = np.full((len(texts), length), PADDING, dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = TOKENISERS[tokeniser](text)[:length]
        row[: len(tokens)] = [ids.get(token, UNKNOWN) for token in tokens]
    return rows
