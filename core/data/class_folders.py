"""Which part and which class a file belongs to, by its name: ``[folders/][train|test|val/]CLASS/[folders/]FILE``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ..errors import DataError

PARTS = ("train", "test", "val")
_PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}  # names of part folders, of any case


def _part(folder: str) -> str | None:
    return _PART_OF.get(folder.lower())


@dataclass(frozen=True, eq=False)
class Layout:
    """For every file its part (an index into ``PARTS``) and its class (an index into ``classes``, by name)."""

    part: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]

    def indices(self, *parts: str) -> np.ndarray:
        """Return which files belong to these parts."""
        return np.flatnonzero(np.isin(self.part, [PARTS.index(part) for part in parts]))


def arrange(names: Sequence[str], where: str) -> Layout:
    """Return the layout of the files ``names`` in the folder or archive ``where``.

    Without part folders everything is ``train``.

    Raises:
        DataError: no files, files outside class folders, part folders beside class folders, or a single class.
    """
    if not names:
        raise DataError(f"{where} holds no images; expected class folders, with or without train/ and test/ above them")
    paths = _unwrapped([PurePosixPath(name).parts for name in names])
    divided = [_part(path[0]) is not None for path in paths]
    if any(divided) and not all(divided):
        raise DataError(
            f"{where} has {names[divided.index(True)]} in a part folder but {names[divided.index(False)]} outside; "
            "train, test, val (training, testing, validation) are parts: rename a class of such a name"
        )
    if divided[0]:
        part = [PARTS.index(str(_part(path[0]))) for path in paths]
        folders = {(_part(path[0]), path[0]) for path in paths}
        if len(folders) > len(set(part)):
            raise DataError(
                f"{where} has several folders of one part: {', '.join(sorted(name for _, name in folders))}"
            )
        paths = [path[1:] for path in paths]
    else:
        part = [0] * len(paths)
    for name, path in zip(names, paths, strict=True):
        if len(path) < 2:
            raise DataError(f"{where} has {name} outside a class folder; expected CLASS/{PurePosixPath(name).name}")
    classes = tuple(sorted({path[0] for path in paths}))
    if len(classes) < 2:
        raise DataError(f"{where} has a single class folder, {classes[0]}; a retrieval experiment needs two or more")
    number = {name: index for index, name in enumerate(classes)}
    return Layout(np.array(part), np.array([number[path[0]] for path in paths], dtype=np.int64), classes)


def _unwrapped(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the paths without folders that enclose everything, such as an archive's own name."""
    while all(len(path) > 2 and path[0] == paths[0][0] and _part(path[0]) is None for path in paths):
        paths = [path[1:] for path in paths]
    return paths
