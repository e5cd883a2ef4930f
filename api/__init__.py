"""hashpress: compress a deep-hashing network, compile it for a device, measure it there.

Names are loaded when they are first used, so that ``import hashpress`` works where torch is not installed.
"""

# ruff: noqa: F401  # the imports below are for type checkers and editors

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compress.modelfile import load, save
    from .compress.passes import (
        PASSES,
        Cp,
        Fastfood,
        Finetune,
        Fold,
        HashWeights,
        Int8,
        LowRank,
        Merge,
        Narrow,
        ProductQuantize,
        Prune,
        Share,
    )  # fmt: skip
    from .compress.recipe import load_recipe
    from .core.data import load_data
    from .core.errors import HashpressError
    from .core.model import Arch, HashModel, InputSpec, Step
    from .hashnets.build import default_arch, untrained
    from .hashnets.codes import outputs, pack
    from .hashnets.evaluate import evaluate
    from .hashnets.importers.recognise import import_checkpoint
    from .hashnets.schedule import Schedule
    from .hashnets.train import train
    from .targets.build import compile_model
    from .targets.runtime import Runtime

__version__ = "0.1.0"

_HOMES = {
    "Arch": "core.model",
    "HashModel": "core.model",
    "InputSpec": "core.model",
    "Step": "core.model",
    "HashpressError": "core.errors",
    "load_data": "core.data",
    "default_arch": "hashnets.build",
    "untrained": "hashnets.build",
    "import_checkpoint": "hashnets.importers.recognise",
    "Schedule": "hashnets.schedule",
    "train": "hashnets.train",
    "outputs": "hashnets.codes",
    "pack": "hashnets.codes",
    "evaluate": "hashnets.evaluate",
    "load": "compress.modelfile",
    "save": "compress.modelfile",
    "load_recipe": "compress.recipe",
    "PASSES": "compress.passes",
    "Cp": "compress.passes",
    "Fastfood": "compress.passes",
    "Finetune": "compress.passes",
    "Fold": "compress.passes",
    "HashWeights": "compress.passes",
    "Int8": "compress.passes",
    "LowRank": "compress.passes",
    "Merge": "compress.passes",
    "Narrow": "compress.passes",
    "ProductQuantize": "compress.passes",
    "Prune": "compress.passes",
    "Share": "compress.passes",
    "compile_model": "targets.build",
    "Runtime": "targets.runtime",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hashpress' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
