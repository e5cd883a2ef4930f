"""Every benchmark measures one small cell on drawn images and writes its result file: scripts still run, not only load."""

from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hashpress.compress.fold import Fold
from hashpress.compress.passes import Share
from hashpress.compress.recipe.load import Recipe, load_recipe
from hashpress.core.data import load_data
from hashpress.core.data.cifar_batches import CLASSES
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import build, default_arch, untrained
from PIL import Image

from benchmarks import alexnet_passes, hashing_speed, latency, narrow, one_shot, spine, status
from benchmarks.lib import cells, hashing, spine_models
from benchmarks.lib.results_io import Output
from benchmarks.papers import deepfried, han, hashednets, int8_ort, lebedev, obc, pqf, qcnn, srinivas, zhang

TRAIN, TEST = 60, 20
RESNET20 = "resnet20-12fca82f.th"


def write_mnist(folder):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        pixels, labels = random.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        header = struct.pack(">BBBB3I", 0, 0, 8, 3, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, count) + labels.tobytes())


def write_cifar(path):
    random = np.random.default_rng(1)
    with tarfile.open(path, "w:xz") as archive:
        for part, each in (("train", TRAIN // 10), ("test", TEST // 10)):
            for name in CLASSES:
                for number in range(each):
                    content = io.BytesIO()
                    Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(content, "png")
                    entry = tarfile.TarInfo(f"{part}/{name}/{number:04}.png")
                    entry.size = content.tell()
                    content.seek(0)
                    archive.addfile(entry, content)


def write_checkpoint(path):
    """Write an untrained ResNet-20 under the names of the public one, which was trained on several GPUs."""
    net = build(default_arch("resnet20", 48, widths=[16, 32, 64]), seed=0)
    state = {name.replace("encoder.", "module.", 1): value for name, value in net.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.startswith("head.")}
    state |= {"module.linear.weight": torch.zeros(10, 64), "module.linear.bias": torch.zeros(10)}
    path.parent.mkdir()
    torch.save({"state_dict": state}, path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_mnist(folder / "data" / "mnist")
    write_cifar(folder / "data" / "cifar10-jpeg.tar.xz")
    write_checkpoint(folder / "checkpoints" / RESNET20)
    return folder / "data"


CACHED = (hashing.cifar10, deepfried.cifar10, obc.network, obc.hessians, han.pruned)


@pytest.fixture
def output(data, tmp_path, monkeypatch):
    """Point everything that benchmarks read, keep and write to folders of this test."""
    results = tmp_path / "results"
    monkeypatch.setenv("HASHPRESS_DATA", str(data))
    monkeypatch.setenv("HASHPRESS_CACHE", str(data / "cache"))
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    for module in (cells, spine):
        monkeypatch.setattr(module, "FOLDER", results)
    for module in (spine, spine_models, han, qcnn, alexnet_passes):
        monkeypatch.setattr(module, "WORK", tmp_path / "work")
    monkeypatch.setattr(alexnet_passes, "RESULT", results / "alexnet_passes.json")
    monkeypatch.setattr(spine_models, "VALIDATION", 20)
    for call in CACHED:
        call.cache_clear()
    yield Output(results, allow_dirty=True)
    for call in CACHED:
        call.cache_clear()


@pytest.fixture
def drawn_resnet20(monkeypatch):
    model = untrained(default_arch("resnet20", 48), seed=0)
    for module in (spine_models, narrow):
        monkeypatch.setattr(module, "resnet20", lambda: model)
    for module in (obc, pqf):
        monkeypatch.setattr(module, "resnet20", lambda: Fold()(model))
    return model


def written(output, name):
    """Return the result file, after what every one of them must hold."""
    assert [path.name for path in output.folder.glob("*.json")] == [f"{name}.json"]
    found = json.loads((output.folder / f"{name}.json").read_text(encoding="utf-8"))
    assert found["name"] == name
    assert found["commit"] == output.commit()
    assert found["settings"]
    assert found["settings_tried"]
    assert len(status.rows(output.folder)) == len(found["targets"])
    return found


def test_deepfried(output):
    deepfried.STAGES["lenet"]()
    deepfried.publish(output)
    found = written(output, "deepfried")
    assert found["values"]["ours"]["lenet"]["weights"] == 430_500
    assert found["values"]["rows"][0]["ours"] == found["values"]["ours"]["lenet"]["error"]


def test_han(output, monkeypatch):
    monkeypatch.setattr(han, "RECIPES", {"lenet300": "lenet-300"})
    han.formats()
    han.finish(output)
    found = written(output, "han")
    sums = found["values"]["ours"]["format-lenet300"]["total"]["bytes"]
    ratios = [target["value"] for target in found["targets"]]
    assert ratios[1] == pytest.approx(sums["ours_file"] / sums["huffman_best_gaps"], abs=1e-4)
    assert ratios[0] < ratios[1] < ratios[2], "the smaller the paper's format, the larger ours beside it"


def test_hashednets(output):
    hashednets.STAGES["3-64-nn"]()
    hashednets.publish(output)
    assert written(output, "hashednets")["values"]["ours"]["3-64-nn"]["values"] < 1 / 64 * 785_000 + 10_000


@pytest.mark.slow
def test_int8_ort(output, monkeypatch):
    model = untrained(default_arch("smallconv", 48), seed=0)
    contest = int8_ort.Contest("", lambda: model, hashing.cifar10, TRAIN)
    monkeypatch.setattr(int8_ort, "IMAGES", 8)
    contest.cell("ort-minmax", lambda: int8_ort.theirs(model, contest.network("minmax", real=True)))
    contest.ours("minmax", "nearest", range="minmax")
    int8_ort.finish(output)
    found = written(output, "int8_ort")
    ours, peer = (found["values"]["ours"][name] for name in ("ours-minmax-nearest", "ort-minmax"))
    flips, score = found["targets"]
    assert flips["value"] == pytest.approx(ours["flips_percent"] - peer["flips_percent"], abs=1e-4)
    assert score["value"] == pytest.approx(ours["map"] - peer["map"], abs=1e-5)
    kept = [np.load(int8_ort.BOOK.folder / f"{name}.npy") for name in ("ours-minmax-nearest", "ort-minmax")]
    error = (kept[0] - kept[1]).std() / TEST**0.5
    assert score["limit"] == pytest.approx(-2 * error, abs=2e-6)


def test_lebedev(output, monkeypatch):
    monkeypatch.setattr(lebedev, "METHODS", {})
    lebedev.curves("lenet5")
    lebedev.publish(output)
    assert written(output, "lebedev")["values"]["ours"]["lenet5-base"]["macs"] > 2e6


def test_obc(output, drawn_resnet20, monkeypatch):
    monkeypatch.setattr(obc, "DENSITIES", ())
    obc.prune()
    obc.finish(output)
    assert written(output, "obc")["values"]["ours"]["original"]["flips_percent"] == 0


def test_pqf(output, drawn_resnet20):
    pqf.measured({"share-3bit": Share(bits=3)})
    output.folder.mkdir()
    pqf.publish(output)
    found = written(output, "pqf")["values"]["ours"]
    assert found["share-3bit"]["bytes"] < found["original"]["bytes"] / 4
    assert (output.folder / "pqf.svg").exists()


def test_qcnn(output, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(qcnn, "FILES", {})
        patched.setattr(qcnn, "untrained", lambda *_, **__: None)  # the layout needs no weights
        qcnn.alexnet()
    qcnn.publish(output)
    (target,) = written(output, "qcnn")["targets"]
    assert target["reached"]


def test_srinivas(output):
    srinivas.removals("lenet5", (420,), ("magnitude",))
    srinivas.finish(output)
    found = written(output, "srinivas")["values"]["ours"]
    assert found["420-magnitude"]["removed_percent"] == pytest.approx(100 * 420 * 811 / 431_080, abs=0.01)


def test_zhang(output, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(zhang, "KINDS", {"filter": zhang.KINDS["filter"]})
        zhang.checkpoint()
    zhang.publish(output)
    assert written(output, "zhang")["values"]["ours"]["checkpoint-2x-filter"]["macs_fewer"] == pytest.approx(2, abs=0.2)


def test_narrow(output, drawn_resnet20, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(narrow, "SCORES", ("l1",))
        narrow.scores()
    narrow.finish(output)
    assert 0.7 < written(output, "narrow")["values"]["ours"]["score-l1"]["macs"] <= 0.8


def test_hashing_speed(output, monkeypatch):
    monkeypatch.setattr(hashing_speed, "IMAGES", {"smallconv": 4})
    monkeypatch.setattr(sys, "argv", ["hashing_speed", "--results", str(output.folder), "--allow-dirty"])
    hashing_speed.main()
    assert written(output, "hashing_speed")["values"]["smallconv"]["largest_difference"] < 1e-3


@pytest.mark.slow
def test_latency(output, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.1)
    monkeypatch.setattr(sys, "argv", ["latency", "smallconv", "--results", str(output.folder), "--allow-dirty"])
    latency.main()
    found = written(output, "latency")
    entry = found["values"]["smallconv"]
    assert entry["largest_difference"] < 1e-3
    assert [target["value"] for target in found["targets"]] == [entry["ratio"], entry["compile_seconds"]]


def test_one_shot(output):
    split = load_data("digits?limit=40")
    one_shot.measured(untrained(default_arch("lenet300", 8, ImageInput.of(split), widths=(6, 5))), split, output)
    found = written(output, "one_shot")
    assert found["targets"][0]["value"] == found["values"]["seconds"], "by the clock"


@pytest.mark.slow
def test_spine_lenet(output):
    spine.main(["lenet300"], output)
    found = written(output, "spine")
    assert found["values"]["measured"]["lenet300"]["commit"] == found["commit"]
    assert [target["name"].split()[0] for target in found["targets"]] == ["lenet300"] * 2


def test_the_recipe_for_resnet20_is_the_shipped_one_with_fewer_epochs():
    """Settings that were chosen stay; only epochs and precision are those of a small machine."""
    ours, shipped = (recipe.passes() for recipe in (spine.shorter(), load_recipe("resnet-20")))
    (share, fold), (share_shipped, fold_shipped, _) = ([item for _, item in passes] for passes in (ours, shipped))
    assert fold == fold_shipped
    assert share.finetune == replace(share_shipped.finetune, epochs=2, precision="float32")
    assert replace(share, finetune=None, bytes=None) == replace(share_shipped, finetune=None, bytes=None)


@pytest.mark.slow
def test_spine_resnet20_is_chosen_on_images_that_neither_train_nor_are_asked(output, monkeypatch):
    monkeypatch.setattr(spine, "shorter", lambda: Recipe.of(Fold(), Share(bits=4)))
    split, whole = spine_models.held_out(), spine_models.cifar10()
    asked, kept = ({image.tobytes() for image in items.pixels} for items in (split.queries, split.train))
    assert len(asked) == 20
    assert len(kept) == TRAIN - 20
    assert not asked & kept
    assert asked | kept == {image.tobytes() for image in whole.train.pixels}
    assert not asked & {image.tobytes() for image in whole.queries.pixels}
    assert len(whole.database) == TRAIN
    spine.main(["retrieval"], output)
    found = written(output, "spine")["values"]["retrieval"]
    assert set(found["validation_map"]) == set(spine_models.MIXTURES)
    assert found["validation_map"][found["mixture"]] == max(found["validation_map"].values())
    assert found["quality"]["uncompressed"]["queries"] == TEST
    trained = [step for step in spine_models.resnet20().history if step.name == "train"]
    assert {step.settings["digest"] for step in trained} == {split.digest}


@pytest.mark.slow
def test_alexnet_passes(output):
    alexnet_passes.WORK.mkdir()
    alexnet_passes.start()
    (alexnet_passes.WORK / "fastfood.json").write_text(json.dumps(alexnet_passes.one("fastfood")))
    alexnet_passes.main(["publish"], output)
    found = written(output, "alexnet_passes")
    memory, seconds = found["targets"]
    assert 1 < memory["value"] < 3
    assert seconds["value"] == found["values"]["fastfood"]["seconds"]["clock"]
