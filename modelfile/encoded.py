"""An encoded model: the bytes of its file, computed once for size, digest and writing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

from . import container


@dataclass(frozen=True)
class EncodedModel:
    """The bytes of a model file, in ``parts``; some parts share memory with the tensors of the model."""

    parts: tuple[bytes | memoryview, ...]

    @cached_property
    def size(self) -> int:
        """Size of the file in bytes."""
        return sum(len(part) for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file in hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.hexdigest()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically.

        Raises:
            InputError: the file cannot be written.
        """
        container.write(path, self.parts)
