"""Trained hash networks of other people keep their heads: the same outputs as the network itself, by the command line."""

import importlib

import pytest
import torch
from deterministic_weights import fill, images
from hashpress.cli.main import run
from hashpress.core.errors import CheckpointError
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.encoders import ENCODERS
from hashpress.hashnets.importers.head import find_head, is_hash, modules_of
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.modelfile.file import load
from program import refused
from torch import nn
from torch.nn.utils import prune

SMALL = {"widths": [8, 8, 16, 16]}


def trunk(name="resnet18", **options):
    return fill(build(default_arch(name, 12, **(options or SMALL))).encoder)


def outputs_of(path, side, **how):
    model = load(path, **how)
    with torch.no_grad():
        return model, model.net(images(side))


class DeepHashResNet(nn.Module):
    """As github.com/swuxyj/DeepHash-pytorch saves it: every layer under two names, and ``hash_layer``."""

    def __init__(self, bits):
        super().__init__()
        for name, child in trunk().named_children():
            self.add_module(name, child)
        children = [self.conv1, self.bn1, nn.ReLU(), self.maxpool]
        self.feature_layers = nn.Sequential(*children, *(getattr(self, f"layer{i}") for i in range(1, 5)), self.avgpool)
        self.hash_layer = nn.Linear(16, bits)

    def forward(self, inputs):
        return self.hash_layer(self.feature_layers(inputs).flatten(1))


class DeepHashAlexNet(nn.Module):
    """As github.com/swuxyj/DeepHash-pytorch saves it: both dense layers of AlexNet lie in ``hash_layer``."""

    def __init__(self, bits):
        super().__init__()
        net = trunk("alexnet", widths=[8, 16, 16, 16, 16], hidden=[32, 24], grid=6)
        self.features = net.features
        self.hash_layer = nn.Sequential(*net.classifier, nn.Linear(24, bits))

    def forward(self, inputs):
        return self.hash_layer(self.features(inputs).flatten(1))


class Numbered(nn.Module):
    """A ResNet without its last layer in a Sequential, and a head of several layers."""

    def __init__(self, bits):
        super().__init__()
        net = trunk()
        children = [net.conv1, net.bn1, nn.ReLU(), net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]
        self.backbone = nn.Sequential(*children, net.avgpool)
        self.encode = nn.Sequential(nn.Linear(16, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, bits), nn.Tanh())
        self.classifier = nn.Linear(bits, 10)

    def forward(self, inputs):
        return self.encode[:-1](self.backbone(inputs).flatten(1))


@pytest.mark.parametrize(
    ("make", "side", "words"),
    [
        (DeepHashResNet, 64, "head hash_layer: linear 24; kept, 24 bits (by its name)"),
        (DeepHashAlexNet, 224, "head hash_layer.6: linear 24; kept, 24 bits (by its name)"),
        (Numbered, 64, "head encode.3: linear 20, batch_norm, relu, linear 24; kept, 24 bits"),
    ],
)
def test_trained_hash_networks_give_their_own_codes(tmp_path, capsys, make, side, words):
    net = fill(make(24))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    output = tmp_path / "base.safetensors"
    assert run(["import", str(tmp_path / "net.pth"), "--input-size", str(side), "-o", str(output)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert words in shown
    assert "assumed: mean 0.485" in shown
    assert "untrained" not in shown
    model, found = outputs_of(output, side)
    with torch.no_grad():
        expected = net(images(side))
    assert model.arch.bits == 24
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found >= 0, expected >= 0)


def test_rule_for_heads_whose_name_says_nothing(tmp_path):
    def head(outputs, name="fc"):
        return find_head(modules_of({f"{name}.weight": torch.zeros(outputs, 16), f"{name}.bias": torch.zeros(outputs)}), 16, None, None)  # fmt: skip

    assert [is_hash(head(n), None)[0] for n in (8, 12, 32, 48, 64, 128)] == [True] * 6
    assert [is_hash(head(n), None)[0] for n in (2, 10, 100, 200, 1000, 21841)] == [False] * 6
    assert is_hash(head(10), 10)[0]
    assert is_hash(head(100, "hash"), None)[0]


def test_head_classifier_and_bits_decide(tmp_path, capsys):
    state = trunk().state_dict()
    for outputs, arguments, bits, kept in (
        (64, [], 64, True),
        (64, ["--classifier", "--bits", "20"], 20, False),
        (10, [], 48, False),
        (10, ["--head", "fc"], 10, True),
    ):
        torch.save(state | {"fc.weight": torch.ones(outputs, 16), "fc.bias": torch.ones(outputs)}, tmp_path / "n.pth")
        output = tmp_path / "n.safetensors"
        assert run(["import", str(tmp_path / "n.pth"), *arguments, "-o", str(output)]) == 0
        head = load(output).net.head
        assert head.weight.shape[0] == bits
        assert bool((head.weight == 1).all()) is kept
    torch.save(state | {"fc.weight": torch.ones(64, 16), "fc.bias": torch.ones(64)}, tmp_path / "n.pth")
    capsys.readouterr()
    start = ("import", tmp_path / "n.pth", "-o", tmp_path / "o")
    assert "has 64 outputs" in refused(capsys, *start, "--bits", 48)
    assert "is no dense layer of the file" in refused(capsys, *start, "--head", "hash")
    assert "give one of them" in refused(capsys, *start, "--head", "fc", "--classifier")
    assert "begins with 'trunk'" in refused(capsys, *start, "--map", "trunk=layer1")
    assert "write 224" in refused(capsys, *start, "--input-size", "big")
    assert "3 channels" in refused(capsys, *start, "--mean", "0.5,0.5")


def test_wrappings_of_the_field(tmp_path):
    r, a = trunk().state_dict(), trunk("alexnet", widths=[8, 16, 16, 16, 16], hidden=[32, 32], grid=6).state_dict()

    def under(prefix):
        return {prefix + key: value for key, value in r.items()}

    cases = {
        "torch.compile": under("_orig_mod."),
        "compile in DDP": under("module._orig_mod."),
        "AveragedModel": under("module.") | {"n_averaged": torch.tensor(5)},
        "profiled": r | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
        "DataParallel on features": {key.replace("features.", "features.module."): value for key, value in a.items()},
        "backbone and hash": {"backbone": r, "hash": {"weight": torch.zeros(8, 16), "bias": torch.zeros(8)}},
    }
    for name, state in cases.items():
        torch.save(state, tmp_path / "m.pth")
        found = import_checkpoint(tmp_path / "m.pth").arch
        assert found.encoder == ("alexnet" if "features" in name else "resnet18"), name
        assert found.bits == (8 if "hash" in name else 48)


def timm_state(name, hidden):
    """The state dict of one of our encoders under timm's names: stem, blocks and the last convolution."""
    encoder = fill(build(default_arch(name, 16, norm_eps=1e-5)).encoder)
    table = {
        "features.0.0.": "conv_stem.",
        "features.0.1.": "bn1.",
        "features.": "blocks.",
        "classifier.0.": "conv_head.",
    }
    renamed = {}
    for own, value in encoder.state_dict().items():
        start = next((old for old in table if own.startswith(old)), "")
        renamed[table.get(start, "") + own[len(start) :]] = value[..., None, None] if "classifier.0.w" in own else value
    head = nn.Linear(hidden, 16)
    return encoder, head, renamed | {f"classifier.{key}": value for key, value in head.state_dict().items()}


@pytest.mark.parametrize(("name", "hidden"), [("mobilenet_v3_small", 1024), ("efficientnet_b0", 1280)])
def test_names_of_timm(tmp_path, name, hidden):
    encoder, head, state = timm_state(name, hidden)
    torch.save(state, tmp_path / "timm.pth")
    model = import_checkpoint(tmp_path / "timm.pth")
    assert (model.arch.encoder, model.arch.bits) == (name, 16)
    assert model.history[0].settings["format"] == "timm"
    with torch.no_grad():
        torch.testing.assert_close(model.net(images(64)), head(encoder(images(64))))


def test_nearest_is_the_encoder_whose_tensors_agree(tmp_path):
    state = {f"trunk.{key}": value for key, value in trunk("resnet34").state_dict().items()}
    del state["trunk.layer3.4.bn1.weight"]
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=r"nearest is resnet34 with 1 mismatch, the first: layer3.4.bn1.weight"):
        import_checkpoint(tmp_path / "m.pth")


COMPUTED = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.parametrize("how", COMPUTED)
def test_computed_weights_are_computed_once(tmp_path, how):
    net = fill(DeepHashResNet(16))
    del net.feature_layers
    COMPUTED[how](net.hash_layer)
    COMPUTED[how](net.layer1[0].conv1)
    net.eval()
    torch.save(net.state_dict(), tmp_path / "m.pth")
    model = import_checkpoint(tmp_path / "m.pth")
    with torch.no_grad():
        torch.testing.assert_close(
            model.net(images(64)), net.hash_layer(_features(net, images(64))), rtol=1e-4, atol=1e-4
        )
    nn.utils.parametrizations.orthogonal(net.layer2[0].conv1)
    torch.save(net.state_dict(), tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="the file does not say how"):
        import_checkpoint(tmp_path / "m.pth")


def _features(net, x):
    x = net.layer1(net.maxpool(torch.relu(net.bn1(net.conv1(x)))))
    return net.avgpool(net.layer4(net.layer3(net.layer2(x)))).flatten(1)


def test_other_types(tmp_path):
    state = trunk().state_dict()
    for change in (
        lambda v: v.to(torch.float8_e4m3fn),
        lambda v: v.to(torch.float8_e5m2),
        lambda v: v.to_sparse(),
        lambda v: v.bfloat16(),
        lambda v: v.double(),
    ):
        changed = {key: change(value) if value.ndim == 4 else value for key, value in state.items()}
        torch.save(changed, tmp_path / "m.pth")
        weight = import_checkpoint(tmp_path / "m.pth").net.encoder.conv1.weight
        expected = changed["conv1.weight"]
        assert torch.equal(weight, (expected.to_dense() if expected.is_sparse else expected).float())


CONTENTS = {
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "an ONNX model": b"\x08\x0a\x12\x07pytorch" + bytes(40),
    "a text file": b"hello world\n",
    "an empty file": b"",
    "a page of HTML": b"<!DOCTYPE html><html>",
    "a gzip archive": b"\x1f\x8b\x08" + bytes(20),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("words", CONTENTS)
@pytest.mark.parametrize("arguments", [(), ("--unpickle",), ("--encoder", "a:b", "--trust-code")])
def test_other_files_are_called_what_they_are(tmp_path, capsys, words, arguments):
    path = tmp_path / "file.pth"
    path.write_bytes(CONTENTS[words])
    assert run(["import", str(path), "-o", str(tmp_path / "o"), *arguments]) == 2
    found = capsys.readouterr().err
    assert words in found
    assert "pickle that" not in found


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape=(3, 16, 16), bits=8, outputs=True):
        super().__init__()
        self.width = "a word"  # means nothing to hashpress
        self.conv = nn.Conv2d(shape[0], 6, 3)
        self.last = nn.Linear(6, bits) if outputs else nn.Identity()

    def forward(self, images):
        return self.last(torch.relu(self.conv(images)).mean((2, 3)))
"""


def test_networks_of_ones_own(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_nets_17.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    start = ["import", "m.pth", "--encoder", "own_nets_17:Net", "-o", "o.safetensors"]
    torch.save({"conv.weight": torch.zeros(6, 3, 3, 3)}, "m.pth")
    assert "allow it with trust_code" in refused(capsys, *start)
    assert "say --input-size" in refused(capsys, *start, "--trust-code")
    here = [*start, "--trust-code", "--input-size", "16"]
    assert "conv.bias (6,) is missing" in refused(capsys, *here)
    assert "write a function (shape, **options)" in refused(capsys, *here, "--option", "colour=3")
    Net = importlib.import_module("own_nets_17").Net

    net = fill(Net())
    for content in (net.state_dict(), net):  # the second is the pickle of a whole module
        torch.save(content, "m.pth")
        assert run(here) == 0
        assert "the network's 8 outputs are the code" in " ".join(capsys.readouterr().out.split())
        _, found = outputs_of("o.safetensors", 16, trust_code=True)
        assert torch.equal(found, net(images(16)))
    assert run([*here, "--bits", "20"]) == 0
    assert "an untrained one of 20 bits on 8 features" in " ".join(capsys.readouterr().out.split())
    hashed = {**net.state_dict(), "hash.weight": torch.ones(12, 6), "hash.bias": torch.zeros(12)}
    hashed = {key: value for key, value in hashed.items() if not key.startswith("last")}
    torch.save(hashed, "m.pth")
    assert run([*here, "--option", "outputs=false"]) == 0
    assert load("o.safetensors", trust_code=True).arch.bits == 12


def test_every_encoder_of_ours_is_in_the_list():
    assert {"mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"} <= set(ENCODERS)
