"""Trained hash networks of other people: imported with their head, their codes those of the original network."""

import collections
import textwrap

import numpy as np
import pytest
import torch
from hashpress.core.errors import CheckpointError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.modelfile.file import load
from program import run_program
from torch import nn

SMALL = ImageInput((3, 64, 64), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RESNET = {"widths": [8, 8, 16, 16]}
ALEXNET = {"widths": [8, 16, 16, 16, 16], "hidden": [32, 24]}


def pixels(count=6, shape=SMALL.shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def encoder(name, options, spec=None):
    net = build(default_arch(name, 12, spec, **options), seed=3).encoder.eval()
    for key, value in net.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.add_(0.1)  # statistics that differ from a fresh network's
    return net


def saved(tmp_path, state):
    torch.save(state, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def same_codes(model, images, whole):
    """The model's outputs and codes are those of ``whole``, a function of the network's inputs."""
    with torch.no_grad():
        expected = whole(model.arch.input.tensor(images)).numpy()
    got = outputs(model, images)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(pack(got), pack(expected))


@pytest.mark.parametrize("head", ["fc", "hash_layer", "hash", "head", "encode", "hash_layer.0"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_resnet_keeps_the_head_it_was_trained_with(tmp_path, head, bias):
    net, layer = encoder("resnet18", RESNET), nn.Linear(16, 64, bias=bias)
    state = net.state_dict() | {f"{head}.{key}": value for key, value in layer.state_dict().items()}
    model = import_checkpoint(saved(tmp_path, state))
    assert (model.arch.encoder, model.arch.bits) == ("resnet18", 64)
    same_codes(model, pixels(2, (3, 224, 224)), lambda images: layer(net(images)))
    assert model.history[0].settings["head"]["kept"]
    assert model.history[0].settings["replaced"] == []


def test_a_classifier_is_replaced_unless_it_is_named_as_the_head(tmp_path):
    net, layer = encoder("resnet18", RESNET), nn.Linear(16, 1000)
    path = saved(tmp_path, net.state_dict() | {f"fc.{key}": value for key, value in layer.state_dict().items()})
    model = import_checkpoint(path)
    assert model.arch.bits == 48
    assert not model.history[0].settings["head"]["kept"]
    assert import_checkpoint(path, head="fc").arch.bits == 1000
    hashing = saved(tmp_path, net.state_dict() | {f"fc.{k}": v for k, v in nn.Linear(16, 64).state_dict().items()})
    assert import_checkpoint(hashing, classifier=True, bits=32).arch.bits == 32
    with pytest.raises(CheckpointError, match=r"--bits 32, but the hash head fc .* has 64 outputs .* --classifier"):
        import_checkpoint(hashing, bits=32)
    with pytest.raises(CheckpointError, match=r"--head fc2 is no dense layer .*there are: fc"):
        import_checkpoint(hashing, head="fc2")


@pytest.mark.parametrize(
    ("dense", "head", "others"),
    [
        (("hash_layer.1", "hash_layer.4"), "hash_layer.6", ()),  # DeepHash-pytorch
        (("remain.1", "remain.4"), "Linear1", ("Linear2",)),  # pytorch_deephash
        (("classifier.1", "classifier.4"), "classifier.6", ()),  # DPSH-pytorch
        (("classifier.1", "classifier.4"), "fc_plus", ("fc",)),  # GreedyHash, its class layer beside
        (("classifier.1", "classifier.4"), "hash_layer.0", ()),  # DSDH_PyTorch
    ],
)
def test_an_alexnet_of_a_public_port_is_imported_whole(tmp_path, dense, head, others):
    net = encoder("alexnet", ALEXNET, SMALL)
    layer, bits = nn.Linear(24, 24), 24
    names = dict(zip(("classifier.1", "classifier.4"), dense, strict=True))
    state = {}
    for key, value in net.state_dict().items():
        layer_name, _, field = key.rpartition(".")
        state[f"{names.get(layer_name, layer_name)}.{field}"] = value
    state |= {f"{head}.{key}": value for key, value in layer.state_dict().items()}
    for other in others:
        state |= {f"{other}.{key}": value for key, value in nn.Linear(bits, 10).state_dict().items()}
    model = import_checkpoint(saved(tmp_path, state), input=SMALL)
    assert (model.arch.encoder, model.arch.bits) == ("alexnet", bits)
    same_codes(model, pixels(), lambda images: layer(net(images)))


def test_a_batch_norm_behind_the_head_belongs_to_it(tmp_path):
    """OrthoHash: a dense layer without bias, a batch norm, and centres on the code."""
    net = encoder("alexnet", ALEXNET, SMALL)
    head = nn.Sequential(nn.Linear(24, 24, bias=False), nn.BatchNorm1d(24)).eval()
    for value in head[1].state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2)
    state = {key.replace("classifier.", "fc."): value for key, value in net.state_dict().items()}
    state |= {f"hash_fc.{key}": value for key, value in head.state_dict().items()} | {
        "ce_fc.centroids": torch.randn(10, 24)
    }
    model = import_checkpoint(saved(tmp_path, state), input=SMALL)
    same_codes(model, pixels(), lambda images: head(net(images)))
    assert model.history[0].settings["head"]["kept"]


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_what_is_assumed_between_the_layers_of_a_head_is_said(tmp_path, activation):
    net, layers = encoder("resnet18", RESNET, SMALL), (nn.Linear(16, 20), nn.Linear(20, 32))
    state = net.state_dict()
    for place, layer in zip((0, 3), layers, strict=True):
        state |= {f"hash_layer.{place}.{key}": value for key, value in layer.state_dict().items()}
    model = import_checkpoint(saved(tmp_path, state), input=SMALL, activation=activation)
    between = torch.tanh if activation else torch.relu
    same_codes(model, pixels(), lambda images: layers[1](between(layers[0](net(images)))))
    assert any("assumed" in note and "relu" in note for note in model.history[0].settings["notes"]) == (
        activation is None
    )


WRAPPINGS = {
    "torch.compile": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled in DistributedDataParallel": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "AveragedModel": lambda s: {f"module.{k}": v for k, v in s.items()} | {"n_averaged": torch.tensor(5)},
    "profiled by thop": lambda s: s | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    "the encoder is an attribute": lambda s: {("hash_layer" if k.startswith("fc") else "backbone") + k[k.index("."):] if k.startswith("fc") else f"backbone.{k}": v for k, v in s.items()},
    "Lightning": lambda s: {"state_dict": {f"model.net.{k}": v for k, v in s.items()}, "epoch": 3},
    "ema": lambda s: {"ema": collections.OrderedDict(s)},
    "bfloat16": lambda s: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
    "float8": lambda s: {k: v.to(torch.float8_e4m3fn) if v.ndim == 4 else v for k, v in s.items()},
    "sparse": lambda s: {k: v.to_sparse() if v.ndim == 4 else v for k, v in s.items()},
    "pruned": lambda s: {k if k != "conv1.weight" else "conv1.weight_orig": v for k, v in s.items()} | {"conv1.weight_mask": torch.ones_like(s["conv1.weight"])},
    "weight norm": lambda s: {k: v for k, v in s.items() if k != "fc.weight"} | {
        "fc.parametrizations.weight.original0": s["fc.weight"].norm(dim=1, keepdim=True),
        "fc.parametrizations.weight.original1": 3 * s["fc.weight"],
    },
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPINGS)
def test_wrappings_leave_the_network_as_it_is(tmp_path, how):
    net, layer = encoder("resnet18", RESNET), nn.Linear(16, 32)
    state = net.state_dict() | {f"fc.{key}": value for key, value in layer.state_dict().items()}
    model = import_checkpoint(saved(tmp_path, WRAPPINGS[how](dict(state))))
    assert (model.arch.encoder, model.arch.bits) == ("resnet18", 32)
    if how not in ("bfloat16", "float8"):
        for key, value in net.state_dict().items():
            torch.testing.assert_close(model.net.encoder.state_dict()[key], value)
        torch.testing.assert_close(model.net.head.weight, layer.weight)


def test_data_parallel_on_the_features_alone(tmp_path):
    state = encoder("alexnet", ALEXNET, SMALL).state_dict()
    state = {key.replace("features.", "features.module."): value for key, value in state.items()}
    assert import_checkpoint(saved(tmp_path, state), input=SMALL).arch.encoder == "alexnet"


def test_names_are_replaced_by_hand(tmp_path):
    state = encoder("resnet18", RESNET).state_dict()
    path = saved(tmp_path, {key.replace("layer1.", "stage_one."): value for key, value in state.items()})
    with pytest.raises(CheckpointError, match="nearest is resnet18"):
        import_checkpoint(path)
    assert import_checkpoint(path, map=["stage_one=layer1"]).arch.encoder == "resnet18"
    with pytest.raises(CheckpointError, match="stage_two"):
        import_checkpoint(path, map=["stage_two=layer1"])


CODE = """
    from torch import nn

    def encoder(shape, wide=9):
        return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, wide))
"""


def test_a_network_of_ones_own_from_the_current_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_own_nets.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9))
    layer = nn.Linear(9, 16)
    state = {f"body.{key}": value for key, value in net.state_dict().items()}
    saved(tmp_path, state | {f"hashing.{key}": value for key, value in layer.state_dict().items()})
    asked = ["import", "net.pth", "--encoder", "my_own_nets:encoder", "--input-size", "16", "-o", "mine.safetensors"]
    code, _, text = run_program(capsys, *asked)
    assert code == 2
    assert "--trust-code" in text
    code, text, _ = run_program(capsys, *asked, "--trust-code", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
    assert code == 0
    assert "hashing" in text
    assert "input 3x16x16, mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25" in text
    model = load("mine.safetensors", trust_code=True)
    same_codes(model, pixels(4, (3, 16, 16)), lambda images: layer(net(images)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(64), "a JPEG image"),
        ("a.onnx", b"\x08\x07\x12\x07pytorch" + bytes(64), "an ONNX model"),
        ("a.pt", b"\x08\x07\x12\x07pytorch" + bytes(64), "an ONNX model"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.pth", b"<!DOCTYPE html><html></html>", "a page of HTML"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        ("a.pth", b"", "empty"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        import_checkpoint(tmp_path / name)
    assert "unpickle" not in str(caught.value)


def test_what_was_recognised_and_assumed_is_printed(tmp_path, capsys):
    state = encoder("resnet18", RESNET).state_dict() | {f"fc.{k}": v for k, v in nn.Linear(16, 10).state_dict().items()}
    path = saved(tmp_path, state)
    code, text, _ = run_program(capsys, "import", str(path), "-o", str(tmp_path / "m.safetensors"))
    assert code == 0
    assert "fc" in text
    assert "the hash head is untrained" in " ".join(text.split())
    assert "3x224x224, mean 0.485, 0.456, 0.406" in " ".join(text.split())
