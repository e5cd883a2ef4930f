"""hashpress: compress a deep-hashing network, compile it for a device, measure it there.

Names are loaded when they are first used, so that ``import hashpress`` works where torch is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compress.base import Context as Context
    from .compress.base import Decision as Decision
    from .compress.base import Pass as Pass
    from .compress.passes import PASSES as PASSES
    from .compress.passes import Cp as Cp
    from .compress.passes import Fastfood as Fastfood
    from .compress.passes import Finetune as Finetune
    from .compress.passes import Fold as Fold
    from .compress.passes import HashWeights as HashWeights
    from .compress.passes import Int8 as Int8
    from .compress.passes import LowRank as LowRank
    from .compress.passes import Merge as Merge
    from .compress.passes import Narrow as Narrow
    from .compress.passes import ProductQuantize as ProductQuantize
    from .compress.passes import Prune as Prune
    from .compress.passes import Share as Share
    from .compress.passes import Thresholds as Thresholds
    from .compress.recipe.load import load_recipe as load_recipe
    from .compress.recipe.load import named_recipes as named_recipes
    from .compress.recipe.recipe import Recipe as Recipe
    from .compress.sensitivity.sensitivity import Sensitivity as Sensitivity
    from .compress.sensitivity.sensitivity import sensitivity as sensitivity
    from .core.data import Source as Source
    from .core.data import load_data as load_data
    from .core.data import load_pairs as load_pairs
    from .core.data.images import Images as Images
    from .core.data.labels import ClassLabels as ClassLabels
    from .core.data.labels import MultiLabels as MultiLabels
    from .core.data.labels import PairLabels as PairLabels
    from .core.data.labels import relevance as relevance
    from .core.data.source import Parts as Parts
    from .core.data.split import Split as Split
    from .core.data.texts import Texts as Texts
    from .core.data.vectors import Vectors as Vectors
    from .core.errors import DataError as DataError
    from .core.errors import HashpressError as HashpressError
    from .core.inputs import ImageInput as ImageInput
    from .core.inputs import TextInput as TextInput
    from .core.inputs import VectorInput as VectorInput
    from .core.inputs import input_of as input_of
    from .core.model import Arch as Arch
    from .core.model import HashModel as HashModel
    from .core.model import Step as Step
    from .hashnets.build import default_arch as default_arch
    from .hashnets.build import untrained as untrained
    from .hashnets.encoders import ENCODERS as ENCODERS
    from .hashnets.importers.recognise import import_checkpoint as import_checkpoint
    from .hashnets.retrieval.bit_flips import bit_flips as bit_flips
    from .hashnets.retrieval.codes import outputs as outputs
    from .hashnets.retrieval.codes import pack as pack
    from .hashnets.retrieval.evaluate import evaluate as evaluate
    from .hashnets.systems import SYSTEMS as SYSTEMS
    from .hashnets.systems.base import System as System
    from .hashnets.training.schedule import Schedule as Schedule
    from .hashnets.training.train import train as train
    from .modelfile.file import load as load
    from .modelfile.file import save as save
    from .profiling.profile import profile as profile
    from .targets.compile import compile_model as compile_model
    from .targets.devices.base import Device as Device
    from .targets.devices.table import DEVICES as DEVICES
    from .targets.devices.table import parse_device as parse_device
    from .targets.runtime import Runtime as Runtime
    from .targets.table import TARGETS as TARGETS
    from .targets.table import Target as Target

__version__ = "0.1.0"

_HOMES = {
    "load": "modelfile.file",
    "save": "modelfile.file",
    "Context": "compress.base",
    "Decision": "compress.base",
    "Pass": "compress.base",
    "Cp": "compress.passes",
    "Fastfood": "compress.passes",
    "Finetune": "compress.passes",
    "Fold": "compress.passes",
    "HashWeights": "compress.passes",
    "Int8": "compress.passes",
    "LowRank": "compress.passes",
    "Merge": "compress.passes",
    "Narrow": "compress.passes",
    "PASSES": "compress.passes",
    "ProductQuantize": "compress.passes",
    "Prune": "compress.passes",
    "Share": "compress.passes",
    "Thresholds": "compress.passes",
    "Recipe": "compress.recipe.recipe",
    "load_recipe": "compress.recipe.load",
    "named_recipes": "compress.recipe.load",
    "Sensitivity": "compress.sensitivity.sensitivity",
    "sensitivity": "compress.sensitivity.sensitivity",
    "load_data": "core.data",
    "load_pairs": "core.data",
    "Source": "core.data",
    "Parts": "core.data.source",
    "relevance": "core.data.labels",
    "Images": "core.data.images",
    "Vectors": "core.data.vectors",
    "Texts": "core.data.texts",
    "ClassLabels": "core.data.labels",
    "MultiLabels": "core.data.labels",
    "PairLabels": "core.data.labels",
    "Split": "core.data.split",
    "DataError": "core.errors",
    "HashpressError": "core.errors",
    "Arch": "core.model",
    "HashModel": "core.model",
    "ImageInput": "core.inputs",
    "VectorInput": "core.inputs",
    "TextInput": "core.inputs",
    "input_of": "core.inputs",
    "Step": "core.model",
    "default_arch": "hashnets.build",
    "untrained": "hashnets.build",
    "outputs": "hashnets.retrieval.codes",
    "pack": "hashnets.retrieval.codes",
    "ENCODERS": "hashnets.encoders",
    "evaluate": "hashnets.retrieval.evaluate",
    "bit_flips": "hashnets.retrieval.bit_flips",
    "import_checkpoint": "hashnets.importers.recognise",
    "Schedule": "hashnets.training.schedule",
    "SYSTEMS": "hashnets.systems",
    "System": "hashnets.systems.base",
    "train": "hashnets.training.train",
    "profile": "profiling.profile",
    "compile_model": "targets.compile",
    "Runtime": "targets.runtime",
    "TARGETS": "targets.table",
    "Target": "targets.table",
    "DEVICES": "targets.devices.table",
    "Device": "targets.devices.base",
    "parse_device": "targets.devices.table",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604

if not TYPE_CHECKING:  # a checker that saw it would find every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'hashpress' has no attribute {name!r}")
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
