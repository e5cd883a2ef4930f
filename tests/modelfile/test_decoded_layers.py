"""A profile says which layers have no kernel of their own: what becomes dense when a bundle is opened, and from what."""

from __future__ import annotations

import numpy as np
import pytest
from hashpress.compress.passes import Fastfood, HashWeights, Int8, ProductQuantize, Prune, Share
from hashpress.core.data import load_data
from hashpress.core.errors import ReportError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.modelfile.file import save
from hashpress.modelfile.layers.base import CompressedLayer
from hashpress.modelfile.layers.int8 import Int8Linear
from hashpress.modelfile.reader import decoded_layers, read_manifest
from hashpress.profiling.html.page import page
from hashpress.profiling.profile import profile
from hashpress.profiling.report import Report, load_report
from hashpress.targets.compile import compile_model
from hashpress.targets.runtime import Runtime
from reports import report

LAYERS = ("encoder.fc1", "encoder.fc2", "head")
CASES = {
    "none": ((), {}),
    "shared": ((Share(bits=4),), dict.fromkeys(LAYERS, "shared")),
    "pruned+shared": (
        (Prune(density={"encoder.fc1": 0.3}), Share(bits=4, skip=("head",))),
        {"encoder.fc1": "pruned+shared", "encoder.fc2": "shared"},
    ),
    "pruned": ((Prune(density=0.3, skip=("head",)),), dict.fromkeys(LAYERS[:2], "pruned")),
    "hashed": ((HashWeights(share=0.3, skip=("head",)),), dict.fromkeys(LAYERS[:2], "hashed")),
    "fastfood": ((Fastfood(skip=("head",)),), dict.fromkeys(LAYERS[:2], "fastfood")),
    "pq": ((ProductQuantize(sweeps=0, entries=16, width=4),), dict.fromkeys(LAYERS, "pq")),
    "int8": ((Int8(images=50),), dict.fromkeys(LAYERS, "int8")),
}


@pytest.fixture(scope="module")
def split():
    return load_data("digits?limit=200")


@pytest.fixture(scope="module")
def model() -> HashModel:
    arch = default_arch("lenet300", 12, ImageInput((1, 8, 8), (0.3,), (0.4,)), widths=(48, 24))
    return untrained(arch, seed=1)


def made(model: HashModel, passes, split) -> HashModel:
    for item in passes:
        model = item(model, split)
    return model


@pytest.mark.parametrize("name", CASES)
def test_the_file_says_what_is_decoded_and_the_bundle_has_its_codes(name, model, split, tmp_path):
    passes, expected = CASES[name]
    small = made(model, passes, split)
    save(small, tmp_path / "m")
    assert decoded_layers(read_manifest(tmp_path / "m")) == expected
    formed = {path for path, layer in small.net.named_modules() if isinstance(layer, CompressedLayer | Int8Linear)}
    assert formed == {path for path, form in expected.items() if form != "pruned"}
    runtime = Runtime(compile_model(small, "host", tmp_path / "b").path)
    assert runtime.verify().differing == 0
    assert np.array_equal(runtime.encode(split.queries.pixels), pack(outputs(small, split.queries.pixels)))


def test_the_report_lists_them(model, split, tmp_path):
    passes = (Prune(density={"encoder.fc1": 0.3}), Share(bits=4, skip=("head",)), Int8(images=50))
    bundle = compile_model(made(model, passes, split), "host", tmp_path / "b").path
    found = profile(bundle, repeats=3, warmup=0, seconds=0.0)
    assert found.decoded == {"encoder.fc1": "pruned+shared", "encoder.fc2": "shared", "head": "int8"}
    lines = [line for line in str(found).splitlines() if "decoded to dense when loaded" in line]
    assert [line.partition("loaded: ")[2] for line in lines] == [
        "pruned+shared: encoder.fc1",
        "shared: encoder.fc2",
        "int8: head",
    ]
    found.save(tmp_path / "r.json")
    assert load_report(tmp_path / "r.json") == found
    assert "Decoded to dense when loaded: pruned+shared: encoder.fc1" in page([found])


def test_dense_networks_have_no_such_line(model, tmp_path):
    found = profile(compile_model(model, "host", tmp_path / "b").path, repeats=3, warmup=0, seconds=0.0)
    assert found.decoded == {}
    assert "decoded" not in str(found)
    assert "Decoded" not in page([found])


def test_layers_of_one_form_share_a_line():
    assert report().decodings() == ["pruned+shared: encoder.conv1, head", "int8: encoder.fc1"]
    value = report().to_json()
    value["decoded"]["head"] = 3
    with pytest.raises(ReportError, match="field 'head' must be str, found int"):
        Report.from_json(value)
