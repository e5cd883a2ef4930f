"""Labelled texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import DataError
from .items import Items


@dataclass(frozen=True, eq=False)
class Texts(Items):
    """Strings, an object array (n,), with their labels; a network's own input turns them into token ids.

    Raises:
        DataError: what is not a string; other errors as :class:`Items`.
    """

    noun: ClassVar[str] = "texts"

    def check_values(self) -> None:
        """Raise DataError unless the values are strings."""
        if self.values.ndim != 1 or not all(isinstance(text, str) for text in self.values):
            raise DataError(f"texts are an array (n,) of strings, found {self.values.dtype} {self.values.shape}")

    def _bytes(self, block: np.ndarray) -> bytes:
        texts = [text.encode("utf-8", "surrogatepass") for text in block]
        return b"".join(len(text).to_bytes(8, "little") + text for text in texts)
