"""Networks of vectors and of texts, from the data to codes, through the program and through every pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.compress.passes import PASSES
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, TargetError
from hashpress.core.inputs import TextInput, VectorInput, input_of
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save
from hashpress.targets.compile import compile_model
from program import refused
from sklearn.datasets import load_digits

TOPICS = {
    "sea": "boat sail harbour wave tide anchor mast crew port salt storm gull",
    "kitchen": "oven bread flour salt butter pan stew spice boil crew roast bowl",
    "sky": "star planet orbit moon telescope comet storm galaxy wave light eclipse dust",
}
SETTINGS = {
    "narrow": {"ratio": 0.5},
    "cp": {"energy": 0.9},
    "lowrank": {"energy": 0.9},
    "prune": {"density": 0.5},
    "finetune": {"epochs": 1},
}
OPTIONS = {"mlp": {"widths": (48, 32)}, "textcnn": {"embedding": 16, "channels": 16}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Specs of digits as vectors of 64 numbers, and of texts of eight words out of twelve about a topic."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    np.savez(folder / "v.npz", x=digits.data.astype(np.uint8)[:600], y=digits.target[:600])
    random = np.random.default_rng(0)
    rows = [
        {"text": " ".join(random.permutation(words.split())[:8]), "label": topic}
        for topic, words in TOPICS.items()
        for _ in range(60)
    ]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"mlp": f"vectors:{folder / 'v.npz'}", "textcnn": f"text:{folder / 't.jsonl'}"}


@pytest.mark.parametrize("system", ["dpsh", "dlbhc"])
@pytest.mark.parametrize(("encoder", "least"), [("mlp", 0.7), ("textcnn", 0.9)])
def test_training_through_the_program(data, tmp_path, monkeypatch, capsys, encoder, least, system):
    monkeypatch.chdir(tmp_path)
    common = f"--encoder {encoder} --bits 16 --optimizer adam --momentum 0.9 --lr 0.01 --batch 64"
    epochs = f"--epochs 12 --data {data[encoder]} --system {system}"
    assert run(["train", *common.split(), *epochs.split(), "-o", "m.safetensors"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "m.safetensors", "--data", data[encoder], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["symmetric"]["map"] > least
    assert run(["encode", "m.safetensors", data[encoder], "-o", "codes.npy"]) == 0
    model, split = load(tmp_path / "m.safetensors"), load_data(data[encoder])
    wanted = np.concatenate([split.database.values, split.queries.values])
    assert np.array_equal(np.load("codes.npy"), pack(outputs(model, wanted)))
    assert type(model.arch.input) is (VectorInput if encoder == "mlp" else TextInput)


@pytest.mark.parametrize("encoder", OPTIONS)
@pytest.mark.parametrize("name", PASSES)
def test_every_pass_works_or_leaves_the_layers(data, tmp_path, encoder, name):
    split = load_data(f"{data[encoder]}?limit=120")
    model = untrained(default_arch(encoder, 12, input_of(split), **OPTIONS[encoder]), seed=1)
    before = outputs(model, split.queries.values)
    result = PASSES[name](**SETTINGS.get(name, {}))(model, split, seed=0)
    save(result, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert np.array_equal(outputs(loaded, split.queries.values), outputs(result, split.queries.values))
    assert np.array_equal(outputs(model, split.queries.values), before)
    if encoder == "mlp" and name in ("prune", "lowrank", "share", "pq", "int8", "hashed", "narrow"):
        assert result.edits
    assert all("embedding" not in json.dumps(edit.__dict__, default=str) for edit in result.edits)


def test_compiling_and_exporting_refuse_in_one_line(data, tmp_path, capsys):
    split = load_data(data["textcnn"])
    model = untrained(default_arch("textcnn", 12, input_of(split)), seed=1)
    with pytest.raises(TargetError, match="only networks of images compile"):
        compile_model(model, "host", tmp_path / "b")
    save(model, tmp_path / "m.safetensors")
    assert "only networks of images" in refused(capsys, "export", tmp_path / "m.safetensors", "-o", tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: default_arch("mlp", 8), "say what its input looks like"),
        (lambda: untrained(default_arch("mlp", 8, TextInput("words", ("a",), 3))), "not take text .*: textcnn"),
        (lambda: untrained(default_arch("textcnn", 8, VectorInput(3))), "not take vector .*: mlp"),
        (lambda: untrained(default_arch("smallconv", 8, VectorInput(3))), "not take vector .*: mlp"),
        (lambda: untrained(default_arch("mlp", 8, VectorInput(3), widths=())), "'widths' takes positive"),
        (lambda: untrained(default_arch("textcnn", 8, TextInput("words", ("a",), 3), kernels=[0])), "'kernels'"),
    ],
)
def test_an_encoder_and_an_input_that_do_not_fit(make, found):
    with pytest.raises(InputError, match=found):
        make()


def test_texts_are_not_augmented_as_images_are(data):
    split = load_data(data["textcnn"])
    model = untrained(default_arch("textcnn", 12, input_of(split), **OPTIONS["textcnn"]), seed=1)
    with pytest.raises(InputError, match="'flip' is for images; texts train without"):
        train(model, split, "dpsh", Schedule(epochs=1, augment="flip"))


def test_package_descriptions_find_their_section(data_dir):
    split = load_data(f"text:{data_dir / 'debian-text'}?limit=600")
    model = untrained(default_arch("textcnn", 24, input_of(split), **OPTIONS["textcnn"]), seed=1)
    schedule = Schedule(epochs=6, optimizer="adam", lr=0.01)
    trained = train(model, split, "dlbhc", schedule, seed=2)
    chance = split.relevance()(slice(None)).mean()
    assert evaluate(trained, split, at=()).map > 2 * chance
