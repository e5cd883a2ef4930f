"""ONNX export: the network with its weights decoded, for other runtimes; checked against ONNX Runtime before it is kept."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from ..core.errors import TargetError
from ..core.files import atomic_write
from ..core.inputs import ImageInput
from ..core.model import HashModel
from ..modelfile.layers.densify import densified

OPSET = 20
MARGIN = 1e-4  # bits whose output is nearer to zero may differ
IMAGES = 4


def export_onnx(model: HashModel, path: str | os.PathLike[str]) -> None:
    """Write ``model`` as ONNX with input ``images`` (N, C, H, W) float32, normalised, and ``outputs`` (N, bits).

    Raises:
        TargetError: torch cannot express the network in ONNX, or ONNX Runtime computes other codes.
        InputError: the file cannot be written.
    """
    if not isinstance(model.arch.input, ImageInput):
        raise TargetError(
            f"{model.arch.encoder} takes {model.arch.input.kind} inputs; only networks of images are exported"
        )
    net = densified(model).copy_net()
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *model.arch.input.shape), dtype=np.uint8)
    images = model.arch.input.tensor(pixels)
    with tempfile.TemporaryDirectory(prefix="hashpress-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            _write(net, images, file)
        except Exception as fault:  # torch and onnxscript raise whatever they like here
            line = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            raise TargetError(f"{model.arch.encoder} cannot be exported to ONNX: {line}") from fault
        with torch.inference_mode():
            _check(file, images.numpy(), net(images).numpy(), model.arch.encoder)
        with atomic_write(path) as handle:
            handle.write(file.read_bytes())


def _write(net: nn.Module, images: torch.Tensor, file: Path) -> None:
    with torch.no_grad(), _quietly():
        program = torch.onnx.export(
            net, (images,), input_names=["images"], output_names=["outputs"], opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), dynamo=True, verbose=False,
        )  # fmt: skip
        if program is not None:
            program.save(str(file), external_data=False)


def open_session(path: str | os.PathLike[str], threads: int = 1) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session at its best settings for ``threads`` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def _check(path: Path, images: np.ndarray, wanted: np.ndarray, name: str) -> None:
    session = open_session(path)
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])
    single = np.asarray(session.run(None, {session.get_inputs()[0].name: images[:1]})[0])
    for values, truth in ((found, wanted), (single, wanted[:1])):
        wrong = ((values >= 0) != (truth >= 0)) & (np.abs(truth) >= MARGIN)
        if values.shape != truth.shape or wrong.any():
            raise TargetError(f"{name}: ONNX Runtime gives {int(wrong.sum())} other bits beyond a margin of {MARGIN}")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's notices about itself (deprecations, versions of packages) from our users."""
    names = ("torch.onnx", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
