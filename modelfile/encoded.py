"""The bytes of a model's file, worked out once: to be counted, compared and written."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

from . import container


@dataclass(frozen=True)
class EncodedModel:
    """A model file that is not written yet. Some ``parts`` are the memory of the model's own tensors."""

    parts: tuple[bytes | memoryview, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(len(part) for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.hexdigest()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: the file cannot be written.
        """
        container.write(path, self.parts)
