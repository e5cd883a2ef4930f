"""TensorIR to a library, by TVM's own passes and code generators."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.s_tir.pipeline import default_s_tir_pipeline
from tvm.tirx.build import codegen_build

from ..table import Target
from .link import link

PUBLIC = 1  # TVM's calling convention of functions that Python may call


def generate_library(module: IRModule, target: Target, path: Path, objects: Path | None = None) -> None:
    """Compile ``module`` for ``target`` and link it into the shared library ``path``.

    Args:
        module: ``run`` and ``pack`` with the kernels they call.
        target: the machine.
        path: the library.
        objects: a folder that gets the compiled objects, or C sources, for the native runtime.

    Raises:
        TargetError: no linker, or it failed.
    """

    def collect(output: str, parts: Sequence[str], **_: Any) -> None:
        if objects is not None:
            for number, part in enumerate(parts):
                shutil.copyfile(part, objects / f"network{number}{Path(part).suffix}")
        link(target, output, parts)

    compiled = _compile(module, tvm.target.Target(dict(target.tvm)))
    compiled.export_library(str(path), fcompile=collect)


def _compile(module: IRModule, target: Any) -> Any:
    lower, _, _ = default_s_tir_pipeline()
    with tvm.transform.PassContext(opt_level=3), target:
        module = tirx.transform.BindTarget(target.with_host(target))(module)
        module = lower(module)
        public = tirx.transform.Filter(_is_public)(module)
        private = tirx.transform.Filter(lambda function: not _is_public(function))(module)
        # TVM's builtins put every buffer of a private function on the heap; left alone they become registers
        public = tirx.transform.LowerTVMBuiltin()(public)
        public.update(private)
        return codegen_build(tirx.transform.LowerIntrin()(public), target)


def _is_public(function: Any) -> bool:
    return int(function.attrs.get("calling_conv", 0)) == PUBLIC
