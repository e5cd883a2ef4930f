"""hashpress: compress a deep-hashing network, compile it for a device, measure it there.

Names are loaded when they are first used, so that ``import hashpress`` works where torch is not installed.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Arch": "core.model",
    "HashModel": "core.model",
    "InputSpec": "core.model",
    "Step": "core.model",
    "HashpressError": "core.errors",
    "load_data": "core.data",
}

__all__ = ["Arch", "HashModel", "HashpressError", "InputSpec", "Step", "__version__", "load_data"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hashpress' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
