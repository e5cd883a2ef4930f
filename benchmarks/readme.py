"""Write README's measured results from ``results/``; ``--check`` only says whether they are up to date.

``python -m benchmarks.readme [--check]``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import status

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: benchmarks/readme.py -->", "<!-- end of results -->"
NAMES = {
    "resnet20": "ResNet-20, 3x32x32",
    "smallconv": "small conv net of DSH, 3x32x32",
    "alexnet_features": "AlexNet's convolutions, 3x224x224",
}
WORDS = {"retrieval": "ResNet-20's codes", "latency": "latency", "lenet300": "the LeNets"}  # stages of benchmarks.spine


def table(result: dict[str, Any], counted: str) -> str:
    """Return the Markdown between the marks."""
    found, codes = result["values"]["retrieval"], result["values"]["fresh_process"]
    chosen = "validation images" if "validation_map" in found else "the queries"
    lines = [
        f"| CIFAR-10, protocol B, 48 bits: public ResNet-20, 4 epochs; mixture chosen on {chosen} | fp32 | hashpress file |",
        "|---|---|---|",
        f"| bytes | {found['fp32_bytes']:,} | {found['file_bytes']:,} (1/{found['ratio']:.1f}) |",
        f"| mAP, symmetric | {found['map']:.4f} | {found['small_map']:.4f} |",
        f"| mAP, compressed queries against a database of original codes | | {found['small_map_asymmetric']:.4f} |",
        f"| bits of {codes['queries']:,} codes that differ between torch and the bundle | | "
        f"{codes['differing_bits']} of {codes['bits']:,} |",
        "",
        "| latency, one thread, batch 1, median | hashpress | ONNX Runtime | ratio | compile |",
        "|---|---|---|---|---|",
    ]
    for name, entry in result["values"]["latency"].items():
        ours, peer = entry["hashpress_ms"]["p50"], entry["onnxruntime_ms"]["p50"]
        lines.append(
            f"| {NAMES[name]} | {ours:.3f} ms | {peer:.3f} ms | {entry['ratio']:.2f} | {entry['compile_seconds']:.1f} s |"
        )
    lines += ["", "| MNIST, Deep Compression recipe | error | fp32 | file | ratio |", "|---|---|---|---|---|"]
    for name, title in (("lenet300", "LeNet-300-100"), ("lenet5", "LeNet-5")):
        entry = result["values"][name]
        lines.append(
            f"| {title} | {entry['error']:.2%} → {entry['small_error']:.2%} | {entry['fp32_bytes']:,} | "
            f"{entry['file_bytes']:,} | {entry['ratio']:.1f} |"
        )
    places: dict[str, list[str]] = {}
    for stage, about in result["values"]["measured"].items():
        if stage in WORDS:
            places.setdefault(f"{about['machine']['cpu']}, {about['machine']['cores']} cores", []).append(WORDS[stage])
    measured = "; ".join(f"{' and '.join(stages)} on {where}" for where, stages in places.items())
    lines += ["", f"Measured: {measured}. `python -m benchmarks.spine` reproduces the figures.", "", counted]
    return "\n".join(lines)


def counted(folder: Path = RESULTS) -> str:
    """Return how many figures of all result files reach their limits."""
    return f"Over all benchmarks, {status.summary(status.rows(folder))}: `python -m benchmarks.status` prints each."


def rewritten(readme: str, result: dict[str, Any], counted: str) -> str:
    """Return README with the table between its marks replaced."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(result, counted)}\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Return 0 when README is up to date or was brought up to date."""
    path = ROOT / "README.md"
    result = json.loads((RESULTS / "spine.json").read_text(encoding="utf-8"))
    old = path.read_text(encoding="utf-8")
    new = rewritten(old, result, counted())
    if "--check" in arguments:
        return int(old != new)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
