"""Sensitivity curves: every point against the same pass run by hand, tables, JSON, plots, the verb."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import numpy as np
import pytest
from hashpress.compress.channels.graph import channels
from hashpress.compress.observe.macs import count
from hashpress.compress.passes import PASSES, Cp, Fastfood, Fold, HashWeights, Int8, Narrow, Prune, Share
from hashpress.compress.select import weighted
from hashpress.compress.sensitivity.plot import plot
from hashpress.compress.sensitivity.probes import AMOUNTS, WHAT, settings_for
from hashpress.compress.sensitivity.sensitivity import Sensitivity, sensitivity, tensor_bytes
from hashpress.core.data import load_data
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import save
from hashpress.modelfile.reader import checked
from small_models import a_model


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=200&validation=40")


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
    pixels = split.held_out.pixels[np.sort(np.random.default_rng(0).permutation(len(split.held_out))[:30])]
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
    assert "skipped: narrow head" in text
    for name in ("a.svg", "a.png"):
        plot(found, tmp_path / name)
        plot(found, tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    with pytest.raises(InputError, match="a plot is"):
        plot(found, tmp_path / "a.txt")


def of_nobody(name, split):
    arch = default_arch(f"nets_foreign:{name}", 12, ImageInput.of(split))
    return untrained(arch, seed=3, trust_code=True)


def test_a_network_that_looks_at_its_values_has_curves():
    split = load_data("digits?limit=120")
    found = sensitivity(of_nobody("looking", split), split, passes=("prune", "lowrank"), images=10)
    assert {point.name for point in found.points} == {"prune", "lowrank"}
    assert min(point.macs for point in found.points) < found.macs


@pytest.mark.parametrize("name", ["untraceable", pytest.param("chain", marks=pytest.mark.slow)])
def test_bits_that_the_pass_overrules_are_no_points(name, split):
    if name == "chain":
        model = Cp(share={"encoder.conv1": 0.5}, skip=())(a_model(widths=[4, 6, 20]), split)
    else:
        split = load_data("digits?limit=120")
        model = of_nobody(name, split)
    found = sensitivity(model, split, passes=("int8",), images=10)
    kept = set()
    for layer in weighted(model.net):
        for amount in AMOUNTS["int8"]:
            done = Int8(bits={layer: int(amount)}, images=20)(model, split).edits[-1]
            has_point = any((point.layer, point.amount) == (layer, amount) for point in found.points)
            assert has_point == (done.bits == amount)
            if not has_point:
                kept.add(layer)
                assert found.skipped[f"int8 {layer}"] == "bits 6, 5, 4, 3, 2: the pass keeps it at 8 bits"
    assert len(kept) == (4 if name == "chain" else 2)  # the head, and the first layer with all its parts


class Failing(Prune):
    """Prunes, but not everything."""

    fault: ClassVar[type[BaseException]] = ZeroDivisionError

    def execute(self, model, decision, context):
        if "encoder.fc1" in self.density or self.density.get("head") == 0.3:
            raise self.fault("by nothing\nat all")
        return super().execute(model, decision, context)


def test_a_probe_that_fails_costs_no_other(split, monkeypatch):
    monkeypatch.setitem(PASSES, "prune", Failing)
    found = sensitivity(a_model(widths=[4, 6, 20]), split, passes=("prune", "share"), images=10)
    assert found.skipped == {
        "prune encoder.fc1": "ZeroDivisionError: by nothing",
        "prune head": "density 0.3: ZeroDivisionError: by nothing",
    }
    curves = found.curves()
    assert [point.amount for point in curves["prune"]["head"]] == [0.9, 0.7, 0.5, 0.2, 0.1, 0.05]
    assert len(curves["share"]) == 4
    monkeypatch.setattr(Failing, "fault", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(a_model(widths=[4, 6, 20]), split, passes=("prune",), images=10)


@pytest.mark.parametrize("bits", [0, 8])
def test_bytes_of_every_tensor_are_those_of_the_file(bits, split, tmp_path):
    model = a_model(widths=[20, 50, 200])
    model = Int8(bits=bits, images=10)(model, split) if bits else model
    save(model, tmp_path / "m.safetensors")
    file, rows = checked(tmp_path / "m.safetensors")
    wanted = {name: array.nbytes for name, array in file.plain.items()} | {row.name: row.size for row in rows}
    assert tensor_bytes(model.net) == wanted
    if bits:
        name = "encoder.conv2.form.integers"
        assert 0.75 * model.net.state_dict()[name].numel() < wanted[name] < model.net.state_dict()[name].numel()


def test_layers_in_another_form_are_left_with_the_reason(split):
    model = Share(bits={"encoder.fc1": 3, "encoder.conv2": 3})(a_model(widths=[4, 6, 20]), split)
    found = sensitivity(model, split, passes=("prune",), images=10)
    assert list(found.curves()["prune"]) == ["encoder.conv1", "head"]
    reason = "already in another form"
    assert found.skipped == {"prune encoder.conv2": reason, "prune encoder.fc1": reason}
    found = sensitivity(model, split, passes=("prune", "int8"), layers=("encoder.fc1",), images=10)
    assert not found.points
    assert found.skipped == {"prune encoder.fc1": reason, "int8 encoder.fc1": reason}
    assert f"skipped: int8 encoder.fc1: {reason}" in str(found)


def test_reasons_are_those_of_the_pass(split):
    model = a_model(widths=[4, 6, 20])
    found = sensitivity(model, split, passes=("narrow", "cp", "pq"), layers=("encoder.fc1", "head"), images=10)
    assert found.skipped["cp encoder.fc1"] == "a dense layer has no spatial axes; lowrank treats it"
    assert found.skipped["narrow head"] == "reaches the hash outputs"
    assert found.skipped["pq head"] == (
        "entries 256: codewords and indices of 10836 bytes would replace 960; "
        "entries 64: codewords and indices of 2751 bytes would replace 960"
    )
    split = load_data("digits?limit=120")
    model = of_nobody("untraceable", split)
    found = sensitivity(model, split, passes=("narrow", "merge"), layers=("encoder.second",), images=10)
    assert not found.points
    assert "cannot be followed: the network cannot be traced" in found.skipped["narrow encoder.second"]
    assert "the network cannot be traced" in found.skipped["merge encoder.second"]


def test_the_axis_is_macs_only_where_a_pass_saves_them(split, tmp_path):
    model = a_model(widths=[4, 6, 20])
    found = sensitivity(model, split, passes=("int8", "narrow", "pq"), layers=("encoder.conv2",), images=10)
    assert {point.macs for point in found.points if point.name == "int8"} == {found.macs}
    price = [point.macs for point in found.points if point.name == "pq"]
    assert min(price) < found.macs < max(price)
    plot(found, tmp_path / "a.svg")
    axes = re.findall(r"<!-- (\w+) saved, % of the network -->", (tmp_path / "a.svg").read_text("utf-8"))
    assert axes == ["bytes", "MACs", "bytes"]


def test_unknown_names_are_refused(split):
    with pytest.raises(InputError, match="unknown pass to probe 'prunes'; did you mean 'prune'"):
        sensitivity(a_model(), split, passes=("prunes",))
    with pytest.raises(InputError, match="unknown layer"):
        sensitivity(a_model(), split, layers=("encoder.conv9",))
    with pytest.raises(InputError, match=r"'prunes'.*'sharing'.*'encoder.conv9'"):  # all at once
        sensitivity(a_model(), split, passes=("prunes", "sharing"), layers=("encoder.conv9",))


def test_forms_that_need_training_are_probed_as_they_start(split):
    model = a_model(widths=[4, 6, 60])
    found = sensitivity(model, split, passes=("hashed", "fastfood"), images=30)
    curves = found.curves()
    assert list(curves["hashed"]) == ["encoder.conv1", "encoder.conv2", "encoder.fc1", "head"]
    assert list(curves["fastfood"]) == ["encoder.fc1", "head"]
    assert found.skipped["fastfood encoder.conv1"] == "a convolution, and Fastfood replaces dense layers"
    pixels = split.held_out.pixels[np.sort(np.random.default_rng(0).permutation(len(split.held_out))[:30])]
    before = outputs(model, pixels) >= 0
    for work, layer, amount in (
        (HashWeights(share={"encoder.fc1": 0.25}), "encoder.fc1", 0.25),
        (Fastfood(skip=("encoder.conv1", "encoder.conv2", "head")), "encoder.fc1", 1),
    ):
        name = "hashed" if isinstance(work, HashWeights) else "fastfood"
        point = next(point for point in curves[name][layer] if point.amount == amount)
        assert point.flips == float(np.mean((outputs(work(model, split), pixels) >= 0) != before))
        assert point.bytes < found.bytes


def test_every_pass_is_probed_or_treats_a_network_as_a_whole():
    assert set(PASSES) - set(AMOUNTS) == {"fold", "finetune", "thresholds"}
