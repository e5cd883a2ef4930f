"""docs/model-file.md against hashpress: a decoder written from the document alone reads what hashpress writes, bit for bit."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import specified_decoder as specified
import specified_streams
import torch
from filled_models import bits_of, every_kind
from hashpress.core.errors import ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.modelfile import container, reader
from hashpress.modelfile import file as modelfile
from hashpress.modelfile.coding import context, floats, integers
from hashpress.modelfile.decode import weights
from hashpress.modelfile.edits import EDITS
from hashpress.modelfile.layers.densify import densified
from hashpress.modelfile.layers.int8 import Int8Conv2d, Int8Linear, Quantized
from specified_streams import RefusedError

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "model-file.md").read_text(encoding="utf-8")
MODELS = every_kind()


def drawn_integers(rng: np.random.Generator, kind: int) -> np.ndarray:
    shape = tuple(int(side) for side in rng.integers(1, (30, 40, 4, 4)[: rng.integers(1, 5)]) + (kind % 3))
    if kind == 0:
        return rng.integers(-(1 << int(rng.integers(1, 64))), 1 << int(rng.integers(1, 63)), shape)
    if kind == 1:
        return rng.integers(-2, 3, shape) * int(rng.choice([1, 1, 7, 1 << 50]))
    if kind == 2:
        return np.minimum(rng.geometric(rng.uniform(0.2, 0.8), shape) - 1, 300)
    chance = rng.random((1, *shape[1:2], *[1] * (len(shape) - 2)))[: len(shape)] ** 3
    rows = np.minimum(1, rng.random((shape[0], *[1] * (len(shape) - 1))) * 2)
    return (rng.random(shape) < np.reshape(chance, chance.shape[-len(shape) :]) * rows) * rng.integers(-3, 4, shape)


def streams_of_integers() -> list[tuple[bytes, np.ndarray]]:
    rng = np.random.default_rng(11)
    arrays = [drawn_integers(rng, kind) for kind in [0, 1, 2, 3, 3, 3] * 20]
    for shape, density in (((400, 64), 0.02), ((520, 64), 0.97), ((24, 12, 5, 5), 0.1)):
        chance = density + (rng.random((1, *shape[1:])) < 0.04) * (0.5 - density)  # some columns are unlike the others
        arrays.append((rng.random(shape) < chance) * rng.integers(1, 4, shape))
    arrays += [np.zeros((3, 0, 2), np.int64), np.array(5), np.arange(4097) * 3]
    return [(integers.encode(array).payload, array) for array in arrays]


def streams_of_floats() -> list[tuple[bytes, np.ndarray]]:
    rng = np.random.default_rng(12)
    found = []
    for number in range(60):
        shape = tuple(int(side) for side in rng.integers(1, (12, 9, 3, 3)[: rng.integers(1, 5)], endpoint=True))
        bits = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
        normal = rng.normal(size=shape).astype(np.float32)
        sparse = np.where(rng.random(shape) < rng.random(), normal, np.float32(0))
        array = (bits, normal, sparse, sparse.astype(np.float16).astype(np.float32))[number % 4]
        found.append((floats.encode(array).payload, array))
    for shift in (-24, -9, 3):
        array = np.ldexp(np.rint(rng.normal(size=(20, 30)) * 5), shift).astype(np.float32) + np.float32(0)
        found.append((floats.encode(array).payload, array))
    halves = np.arange(1 << 16, dtype="<u2")
    payload = bytes([floats.HALF]) + halves.tobytes()
    return [*found, (payload, floats.decode(payload, halves.shape))]


def test_streams_of_integers() -> None:
    modes = Counter()
    for payload, array in streams_of_integers():
        found = specified_streams.integers(payload, array.shape)
        assert (found.dtype, found.shape, found.tobytes()) == (np.int64, array.shape, array.astype(np.int64).tobytes())
        modes[payload[0]] += 1
    assert min(modes[mode] for mode in range(4)) >= 4


def test_streams_of_floats() -> None:
    forms = Counter()
    for payload, array in streams_of_floats():
        found = specified_streams.floats(payload, array.shape)
        assert (found.dtype, found.shape, found.tobytes()) == (np.float32, array.shape, array.tobytes())
        forms[payload[0]] += 1
    assert min(forms[form] for form in range(5)) >= 3


def outcome(decode: Callable[[bytes, tuple[int, ...]], np.ndarray], content: bytes, shape: tuple[int, ...]) -> Any:
    """The shape, type and bits of what is decoded; None where it is refused."""
    try:
        return bits_of({"": decode(content, shape)})
    except (ModelFileError, RefusedError):
        return None


@pytest.mark.parametrize("kind", ["integers", "floats"])
def test_damaged_streams_are_refused_or_read_alike(kind: str) -> None:
    module, streams = (integers, streams_of_integers()) if kind == "integers" else (floats, streams_of_floats())
    decode, rng, refusals = getattr(specified_streams, kind), np.random.default_rng(13), Counter()
    for payload, array in streams:
        if array.size > 1500:
            continue
        for _ in range(6):
            changed = bytearray(payload)
            for place in rng.integers(0, min(len(changed), int(rng.choice([2, 12, 1000]))), rng.integers(1, 3)):
                changed[place] = rng.choice([0, 1, 2, 3, 128, 255, changed[place] ^ 1, changed[place] + 1 & 255])
            content = bytes(changed[: len(changed) - int(rng.choice([0, 0, 0, 1, 4]))])
            ours = outcome(module.decode, content, array.shape)
            assert ours == outcome(decode, content, array.shape), content.hex()
            refusals[ours is None] += 1
    assert min(refusals.values()) > 100


@pytest.mark.parametrize("name", MODELS)
def test_model_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model"
    modelfile.save(MODELS[name], path)
    content = path.read_bytes()
    file, rows = reader.checked(path)
    stored, dense = reader.decode(file, rows, path), reader.read_dense(path)
    for ours, theirs in ((stored, specified.read(content).tensors), (dense, specified.dense(content))):
        assert bits_of(ours) == bits_of(theirs)
    torch_state = densified(modelfile.load(path)).net.state_dict()
    assert {key for key, value in torch_state.items() if not np.array_equal(value.numpy(), dense[key])} == set()


def test_model_files_of_every_kind() -> None:
    assert {edit.kind for model in MODELS.values() for edit in model.edits} == set(EDITS)
    plain = [specified.opened(b"".join(modelfile.content(model)))[0] for model in MODELS.values()]
    assert any(len(header) > 3 for header in plain)


def test_every_type_and_odd_names(tmp_path: Path) -> None:
    rng, plain, rows, streams = np.random.default_rng(18), {}, [], b""
    for code, dtype in specified.TYPES.items():
        array = (rng.normal(size=(3, 5)) * 40).astype(dtype)
        plain[f'plain "{code}"\\\n\x01\x7fé😀'] = array
        if code not in ("F16", "F64"):
            payload = modelfile.coded(array).payload
            rows.append([code, code, [3, 5], len(payload), 1])
            streams += payload
    manifest = {"arch": {}, "edits": [], "coded": rows, "history": []}
    content = b"".join(container.content(manifest, plain, streams))
    (tmp_path / "types").write_bytes(content)
    file, found = reader.checked(tmp_path / "types")
    assert bits_of(specified.read(content).tensors) == bits_of(reader.decode(file, found, tmp_path))
    assert len(found) + len(plain) == 16


def test_hashed_weights() -> None:
    rng = np.random.default_rng(14)
    for shape in ((7, 5), (1, 1), (3, 2, 1, 1), (2, 3, 3, 3), (2, 2, 1, 4), (3, 1, 4, 2), (2, 1, 7, 5)):
        for bands in {1, max(sum(shape[2:]) - 1, 1)}:
            sizes = [int(size) for size in rng.integers(1, 9, bands)]
            seed = int(rng.integers(0, 1 << 32))
            values = rng.normal(size=sum(sizes)).astype(np.float32)
            edit = {"kind": "hashed", "layer": "l", "shape": list(shape), "sizes": sizes, "seed": seed}
            ours = weights.hashed_weight(values, shape, sizes, seed)
            assert specified.weight({"values": values}, edit, 1 << 20).tobytes() == ours.tobytes()


def test_fastfood_weights() -> None:
    rng = np.random.default_rng(15)
    for outputs, inputs in ((1, 1), (5, 2), (4, 3), (9, 4), (40, 17), (33, 32)):
        d = 1 << (inputs - 1).bit_length()
        blocks = -(-outputs // d)
        form = {"signs": (blocks, inputs), "gauss": (blocks, d), "norms": (outputs,)}
        form = {name: rng.normal(size=shape).astype(np.float32) for name, shape in form.items()}
        seed = int(rng.integers(0, 1 << 32))
        ours = weights.fastfood_weight(**form, seed=seed)
        assert specified.weight(form, {"kind": "fastfood", "seed": seed}, 1 << 20).tobytes() == ours.tobytes()


def test_integer_arithmetic() -> None:
    rng = np.random.default_rng(16)
    for activations, step in ((8, 0.0), (8, 2.0**-6), (3, 2.0**-3)):
        edit = Quantized("l", 0.037, 5 % (1 << activations), step, 8, activations)
        for layer in (Int8Linear(torch.nn.Linear(30, 7), edit), Int8Conv2d(torch.nn.Conv2d(2, 7, (3, 5), 2, 1), edit)):
            whole = layer.form.integers.copy_(torch.from_numpy(rng.integers(-128, 128, layer.form.integers.shape)))
            layer.bias.copy_(torch.from_numpy(np.rint(rng.normal(size=7) * 1000)))
            layer.multiplier.copy_(torch.from_numpy(rng.uniform(1e-4, 1e-3, 7)))
            halves = (rng.integers(-40, 300, (3, 144)) + 0.5) * 0.037  # where a rounding decides
            x = torch.from_numpy(halves.astype(np.float32))[:, : 30 if whole.ndim == 2 else 144]
            x = x if whole.ndim == 2 else x.view(3, 2, 8, 9)
            unfolded = x if whole.ndim == 2 else torch.nn.functional.unfold(x, (3, 5), 1, 1, 2).transpose(1, 2)
            given = layer.bias.numpy(), layer.multiplier.numpy(), dataclasses.asdict(edit)
            found = specified.int8_outputs(unfolded.numpy(), whole.flatten(1).numpy(), *given)
            ours = layer(x) if whole.ndim == 2 else layer(x).flatten(2).transpose(1, 2)
            assert np.array_equal(found, ours.numpy())


def test_tables_of_the_document() -> None:
    text = DOCUMENT[DOCUMENT.index("SQUASH = ") + 9 :].split("```")[0]
    squash = tuple(int(number) for number in text.split())
    mantissa = tuple(int(number) for number in re.search(r"MANTISSA = ([\d ]+)", DOCUMENT).group(1).split())
    assert squash == specified_streams.SQUASH == tuple(context.SQUASH.tolist())
    assert mantissa == specified_streams.MANTISSA == tuple(context.MANTISSA.tolist())


def test_logarithmic_odds() -> None:
    shares = np.arange((1 << 16) + 1)
    assert [specified_streams.odds(share, 1) for share in shares.tolist()] == context.odds(shares, 1).tolist()


def test_pixels_become_inputs_as_in_the_document() -> None:
    spec = ImageInput((2, 16, 16), (0.4914, 0.1), (0.2023, 1.7))
    pixels = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(1, 2, 16, 16)
    scale = [np.float32(1.0 / (255.0 * std)) for std in spec.std]
    shift = [np.float32(-mean / std) for mean, std in zip(spec.mean, spec.std, strict=True)]
    expected = np.stack([pixels[:, c].astype(np.float32) * scale[c] + shift[c] for c in range(2)], 1)
    assert spec.normalise(pixels).numpy().tobytes() == expected.tobytes()


def test_fields_of_edits_in_the_document() -> None:
    words = {"str": "string", "int": "integer", "float": "real", "bool": "boolean"}
    words |= {"tuple[str, ...]": "list of strings", "tuple[int, ...]": "list of integers"}
    text = DOCUMENT[DOCUMENT.index("### 3.3") : DOCUMENT.index("### 3.4")]
    found = {}
    for kind, fields in re.findall(r"^\| `(\w+)` \| (.*?) \| section", text, re.MULTILINE):
        found[kind] = {}
        for part in fields.split("; "):
            names, _, what = part.partition(": ")
            found[kind] |= dict.fromkeys(re.findall(r"`(\w+)`", names), what)
    expected = {}
    for kind, edit in EDITS.items():
        defaults = {f.name: f.default for f in dataclasses.fields(edit) if f.default is not dataclasses.MISSING}
        named = {name: f" = {json.dumps(value)}" for name, value in defaults.items()}
        expected[kind] = {f.name: words[f.type] + named.get(f.name, "") for f in dataclasses.fields(edit)}
    assert found == expected


def test_the_decoder_knows_nothing_of_hashpress() -> None:
    for module in (specified, specified_streams):
        names = set()
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {getattr(node, "module", None) or alias.name for alias in node.names}
        assert not {name.split(".")[0] for name in names} & {"hashpress", "constriction", "torch"}
