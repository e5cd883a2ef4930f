"""Sensitivity curves: every point against the same pass run by hand, tables, JSON, plots, the verb."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.compress.channels import channels
from hashpress.compress.macs import count
from hashpress.compress.modelfile import save
from hashpress.compress.passes.fold import Fold
from hashpress.compress.passes.narrow import Narrow
from hashpress.compress.passes.prune import Prune
from hashpress.compress.sensitivity import AMOUNTS, WHAT, Sensitivity, sensitivity, settings_for, tensor_bytes
from hashpress.compress.sensitivity_plot import plot
from hashpress.core.data import load_data
from hashpress.core.errors import InputError
from hashpress.hashnets.codes import outputs
from small_models import a_model


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=200")


@pytest.fixture(scope="module")
def found(split):
    return sensitivity(
        a_model(widths=[4, 6, 20]), split, passes=("prune", "share", "int8", "narrow", "merge"), images=30
    )


def test_every_layer_has_a_curve(found):
    curves = found.curves()
    layers = ["encoder.conv1", "encoder.conv2", "encoder.fc1", "head"]
    for name in ("prune", "share"):
        assert list(curves[name]) == layers
        assert all(len(points) == len(AMOUNTS[name]) for points in curves[name].values())
    assert len(curves["int8"]["encoder.conv1"]) == len(curves["int8"]["head"]) == 1
    assert list(curves["narrow"]) == list(curves["merge"]) == layers[:3]
    assert set(AMOUNTS) == set(WHAT)


def test_a_point_is_what_the_pass_does(found, split):
    model = a_model(widths=[4, 6, 20])
    pixels = split.queries.pixels[np.sort(np.random.default_rng(0).permutation(len(split.queries))[:30])]
    before = outputs(model, pixels)
    for name, settings, layer, amount in (
        (Prune, {"density": {"encoder.fc1": 0.1}}, "encoder.fc1", 0.1),
        (Narrow, {"ratio": 0.5, "skip": ("encoder.conv1", "encoder.fc1", "head")}, "encoder.conv2", 0.5),
    ):
        changed = name(**settings)(model, split)
        after = outputs(changed, pixels)
        flipped = (before >= 0) ^ (after >= 0)
        (point,) = (p for p in found.points if (p.name, p.layer, p.amount) == (name.__name__.lower(), layer, amount))
        assert point.flips == pytest.approx(flipped.mean())
        assert point.weighted == pytest.approx(np.abs(before[flipped]).sum() / np.abs(before).sum(), rel=1e-5)
        assert point.macs == count(changed).macs
        assert point.bytes == sum(tensor_bytes(changed.net).values())
        assert point.bytes < found.bytes


def test_stronger_settings_save_more(found):
    for name, layers in found.curves().items():
        for points in layers.values():
            sizes = [point.bytes for point in points]
            assert sizes == sorted(sizes, reverse=True), (name, points[0].layer)


def test_bytes_are_nearly_those_of_the_file(tmp_path):
    model = a_model()
    save(model, tmp_path / "m.safetensors")
    size = (tmp_path / "m.safetensors").stat().st_size
    assert 0.95 * size < sum(tensor_bytes(model.net).values()) < size


def test_residual_channels_are_probed_together(split):
    model = Fold()(a_model("resnet20", widths=[4, 4, 8]))
    found = sensitivity(model, split, passes=("narrow",), layers=("encoder.layer1.0.conv1", "encoder.conv1"), images=20)
    assert {point.layer for point in found.points} == {"encoder.layer1.0.conv1", "encoder.conv1"}
    skip = settings_for("narrow", "encoder.conv1", 0.5, channels(model))["skip"]
    assert "encoder.layer1.0.conv2" not in skip
    assert "encoder.layer1.0.conv1" in skip


def test_json_round_trip_table_and_plot(found, tmp_path):
    again = Sensitivity.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    text = str(found)
    assert "encoder.fc1" in text
    assert "left alone: narrow head" in text
    for name in ("a.svg", "a.png"):
        plot(found, tmp_path / name)
        plot(found, tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    with pytest.raises(InputError, match="a plot is"):
        plot(found, tmp_path / "a.txt")


def test_unknown_names_are_refused(split):
    with pytest.raises(InputError, match="unknown pass to probe 'prunes'; did you mean 'prune'"):
        sensitivity(a_model(), split, passes=("prunes",))
    with pytest.raises(InputError, match="unknown layer"):
        sensitivity(a_model(), split, layers=("encoder.conv9",))


def test_the_verb(tmp_path, capsys):
    save(a_model(widths=[4, 6, 20]), tmp_path / "m.safetensors")
    arguments = [
        "sensitivity",
        str(tmp_path / "m.safetensors"),
        "--data",
        "digits?size=16&limit=100",
        "--passes",
        "prune",
    ]
    arguments += ["--images", "20", "-o", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.svg")]
    assert run(arguments) == 0
    assert "density 0.05" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "s.json").read_text())["points"]) == 20
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20
