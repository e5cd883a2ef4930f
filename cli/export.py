"""hashpress export: convert a model file to ONNX."""

from __future__ import annotations

from . import options
from .console import console, progress, set_threads

NAME = "export"
EXAMPLES = options.examples("export small.safetensors -o small.onnx")


def verb(
    model: options.Model,
    output: options.Output,
    force: options.Force = False,
    trust_code: options.TrustCode = False,
) -> None:
    """Write the network with decoded weights as ONNX, and check its outputs with ONNX Runtime."""
    set_threads(1)
    from ..core.outputs import ONNX, check_output

    check_output(output, ONNX, [("model", model)], force=force)
    from ..hashnets.repeatable import check_repeatable
    from ..modelfile.file import load
    from ..targets.onnx import export_onnx

    with progress():
        network = load(model, trust_code=trust_code)
        check_repeatable(network)
        export_onnx(network, output)
    console().print(f"{output}: {output.stat().st_size:,} bytes, fp32 (ONNX has no entropy coding)")
