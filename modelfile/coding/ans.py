"""Asymmetric numeral systems (ANS) with constriction: 64-bit state, 32-bit words, 24-bit models.

A model is a table of integer frequencies that sum to ``1 << precision``; constriction receives ``frequency - 1`` so that
its floating-point set-up reproduces the integers exactly. A decoder is therefore a small loop::

    slot = state & 0xFFFFFF;  symbol = lookup(slot >> (24 - precision))
    state = (state >> 24) * frequency[symbol] + slot - start[symbol]
    if (state < 1 << 32 && words remain) state = state << 32 | next word from the end

with frequency and start scaled by ``1 << (24 - precision)``. (Duda 2013, arXiv:1311.2540; Bamler 2022, arXiv:2201.01741.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np

from ...core.errors import ModelFileError

MODEL_BITS = 24
CHUNK = 1 << 20  # symbols encoded at once

Model = Any  # a constriction.stream.model.Categorical (untyped), or None for a single symbol


def model(frequencies: Sequence[int] | np.ndarray, precision: int) -> Model:
    """Return the entropy model of at least two positive ``frequencies`` that sum to ``1 << precision``."""
    scaled = np.asarray(frequencies, dtype=np.int64) << (MODEL_BITS - precision)
    if len(scaled) < 2 or scaled.min() < 1 or scaled.sum() != 1 << MODEL_BITS:
        raise ModelFileError("an entropy model of a coded stream is not a distribution")
    return constriction.stream.model.Categorical((scaled - 1).astype(np.float64), perfect=False)


_FLAGS = constriction.stream.model.Categorical(perfect=False)


def _pairs(probabilities: np.ndarray, precision: int) -> np.ndarray:
    """Return frequency - 1 of the symbols 0 and 1, (N, 2)."""
    ones = probabilities.astype(np.int64) << (MODEL_BITS - precision)
    return np.stack([(1 << MODEL_BITS) - ones - 1, ones - 1], axis=1).astype(np.float32)


class AnsEncoder:
    """Encoder of a stack of symbols: the last one pushed is decoded first."""

    def __init__(self) -> None:
        self._coder = constriction.stream.stack.AnsCoder()

    def push(self, symbols: np.ndarray, entropy_model: Model) -> None:
        """Push ``symbols`` so that they are decoded in their order."""
        for begin in reversed(range(0, len(symbols) if entropy_model is not None else 0, CHUNK)):
            chunk = np.ascontiguousarray(symbols[begin : begin + CHUNK], dtype=np.int32)
            self._coder.encode_reverse(chunk, entropy_model)

    def push_flags(self, flags: np.ndarray, probabilities: np.ndarray, precision: int) -> None:
        """Push ``flags`` (N,), each with its own probability of 1 in units of ``1 / 2**precision``."""
        if len(flags):
            self._coder.encode_reverse(
                np.ascontiguousarray(flags, dtype=np.int32), _FLAGS, _pairs(probabilities, precision)
            )

    def to_bytes(self) -> bytes:
        """Return the stream as little-endian words."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Decoder of a stream written by :class:`AnsEncoder`.

    Raises:
        ModelFileError: the bytes are not an ANS stream.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise ModelFileError(f"a coded stream of {len(payload)} bytes is not a multiple of 32-bit words")
        words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        try:
            self._coder = constriction.stream.stack.AnsCoder(words)
        except ValueError as fault:
            raise ModelFileError(f"a coded stream is damaged: {fault}") from fault

    def pop(self, entropy_model: Model, count: int) -> np.ndarray:
        """Return the next ``count`` symbols as int32; without a model all are 0."""
        if entropy_model is None or not count:
            return np.zeros(count, dtype=np.int32)
        return self._coder.decode(entropy_model, count)

    def pop_flags(self, probabilities: np.ndarray, precision: int) -> np.ndarray:
        """Return the next flags as int32, one for each probability."""
        return self._coder.decode(_FLAGS, _pairs(probabilities, precision))

    def finish(self) -> None:
        """Raise ModelFileError if the stream has symbols that were not decoded, or too few."""
        if not self._coder.is_empty():
            raise ModelFileError("a coded stream is damaged: it has a different number of symbols than expected")
