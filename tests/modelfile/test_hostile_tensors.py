"""Hostile tensors and edits behind a right checksum: ModelFileError without torch, too, and not a word from numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import program
import pytest
import torch
from damaged_files import CHANGES, TINY, refused, remade, signed
from hashpress.compress.passes import Fastfood, HashWeights, ProductQuantize, Share
from hashpress.core.errors import ModelFileError
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile import container, file, reader
from hashpress.modelfile.coding import floats, integers


@pytest.fixture(scope="module")
def tiny() -> bytes:
    return b"".join(file.content(Share(bits=2)(untrained(default_arch("lenet300", 4, TINY, widths=(6, 5))))))


def with_tensor(content: bytes, name: str, array: np.ndarray) -> bytes:
    """Return the file with one more coded tensor."""
    payload = floats.encode(array).payload if array.dtype == np.float32 else integers.encode(array).payload
    code, shape = container.code_of(array), list(array.shape)
    made = remade(content, lambda m: m["coded"].append([name, code, shape, len(payload), 0]))
    length = int.from_bytes(made[:8], "little")
    sizes = json.loads(made[8 : 8 + length])
    middle, end = sizes["manifest"]["data_offsets"][1], sizes["streams"]["data_offsets"][1]
    body = made[8 + length : 8 + length + end] + payload
    return signed(container._header({}, middle, end + len(payload) - middle)[8:], body)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x.form.order", np.zeros((), np.int32), "a permutation of the input channels"),
        ("x.form.order", np.zeros((2, 2), np.int32), "a permutation of the input channels"),
        ("x.form.indices", np.zeros((), np.int32), "outside their codebook"),
        ("x.form.integers", np.zeros((), np.int8), "rows of int8 values"),
        ("x.form.integers", np.zeros((2, 2), np.float32), "rows of int8 values"),
        ("x.form.integers", np.zeros((2, 2), np.int8), "one bias for each"),
    ],
)
def test_tensors_of_no_layer(tiny: bytes, tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    content = with_tensor(tiny, name, array)
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        reader.read_dense(tmp_path / "odd")
    refused(tmp_path / "odd", content)


@pytest.mark.parametrize("layers", [None, 4294967296, "head", [3], [["head"]], {"head": 1}])
def test_pruned_edits_that_name_no_layers(layers: Any) -> None:
    edits = [{"kind": "pruned"} | ({} if layers is None else {"layers": layers})]
    with pytest.raises(ModelFileError, match="needs a list of layers") as caught:
        reader.decoded_layers({"edits": edits})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("kind", ["shared", "fastfood", "hashed", "pq"])
@pytest.mark.filterwarnings("error")
def test_values_that_are_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, value: float) -> None:
    """Read without torch they are refused, and numpy says nothing about them either."""
    passes = {
        "shared": Share(bits=2, scaled=True),
        "fastfood": Fastfood(skip=()),
        "hashed": HashWeights(share=0.5),
        "pq": ProductQuantize(sweeps=0, width=2, entries=4),
    }
    model = passes[kind](untrained(default_arch("lenet300", 4, TINY, widths=(6, 5))))
    with torch.no_grad():
        for name, values in model.net.named_parameters():
            if ".form." in name:
                values.fill_(value)
    monkeypatch.setattr(file, "not_finite", lambda _: "")  # as if somebody else had written it
    file.save(model, tmp_path / "m")
    if kind in ("pq", "hashed") and value == 3e38:  # nothing is multiplied
        assert np.isfinite(reader.read_dense(tmp_path / "m")["head.weight"]).all()
        return
    with pytest.raises(ModelFileError, match="cannot be decoded") as caught:
        reader.read_dense(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_show_ends_with_the_code_of_wrong_input(
    tiny: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").write_bytes(remade(tiny, CHANGES["row type list"][0]))
    assert "needs a name, a dtype and a shape" in program.refused(capsys, "show", str(tmp_path / "m"))
