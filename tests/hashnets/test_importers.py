"""Checkpoints of other people: recognised by keys and shapes, or refused in one line; nothing in them runs."""

import collections
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from hashpress.core.errors import CheckpointError, InputError
from hashpress.core.files import sha256_file
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.importers.unpickle import convert
from torch import nn

NARROW = {  # foreign name of the classifier, and widths that keep the tests small
    "resnet20": ("linear", {"widths": [4, 8, 16]}),
    "resnet32": ("linear", {"widths": [4, 7, 9]}),
    "resnet44": ("linear", {"widths": [4, 8, 16]}),
    "resnet56": ("linear", {"widths": [16, 32, 64]}),
    "resnet18": ("fc", {"widths": [4, 8, 12, 16]}),
    "resnet34": ("fc", {"widths": [4, 8, 12, 16]}),
    "resnet50": ("fc", {"widths": [4, 8, 12, 16]}),
    "alexnet": ("classifier.6", {"widths": [4, 8, 6, 5, 3], "hidden": [12, 10], "grid": 6}),
    "vgg16": ("classifier.6", {"widths": list(range(2, 15)), "hidden": [12, 10], "grid": 7}),
}


def foreign(name, *, classes=10, seed=7):
    """A state dict as its authors save it: the encoder's own names and a classifier at the end."""
    classifier, options = NARROW[name]
    net = build(default_arch(name, classes, **options), seed=seed)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(0.01)  # statistics that differ from a fresh network's
    state = dict(net.encoder.state_dict())
    return state | {f"{classifier}.{key}": value for key, value in net.head.state_dict().items()}


def saved(tmp_path, content, name="net.pth", **how):
    torch.save(content, tmp_path / name, **how)
    return tmp_path / name


@pytest.mark.parametrize("name", NARROW)
def test_encoder_and_widths_are_recognised(tmp_path, name):
    state = foreign(name)
    path = saved(tmp_path, state)
    model = import_checkpoint(path, bits=24, seed=1)
    classifier, options = NARROW[name]
    assert model.arch == default_arch(name, 24, **options)
    found = model.net.encoder.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items() if not key.startswith(classifier))
    assert model.net.head.weight.shape[0] == 24
    assert torch.equal(model.net.head.weight, import_checkpoint(path, bits=24, seed=1).net.head.weight)
    (step,) = model.history
    assert (step.name, step.seed) == ("import", 1)
    assert step.settings["sha256"] == sha256_file(path)
    assert step.settings["replaced"] == [f"{classifier}.bias", f"{classifier}.weight"]
    assert Arch.from_json(model.arch.to_json()) == model.arch


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "best_prec1": 91.7},
        lambda state: {"epoch": 3, "model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"0.module.{key}": value for key, value in state.items()},
        lambda state: {f"backbone.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
        lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        collections.OrderedDict,
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_wrappings_of_all_kinds(tmp_path, wrapped, old):
    state = foreign("resnet20")
    path = saved(tmp_path, wrapped(state), _use_new_zipfile_serialization=not old)
    model = import_checkpoint(path)
    assert model.arch.encoder == "resnet20"
    torch.testing.assert_close(model.net.encoder.conv1.weight, state["conv1.weight"], rtol=1e-3, atol=1e-4)
    assert {value.dtype for value in model.net.parameters()} == {torch.float32}


def test_safetensors(tmp_path):
    state = foreign("alexnet")
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    model = import_checkpoint(tmp_path / "net.safetensors", format="torchvision", encoder="alexnet")
    assert torch.equal(model.net.encoder.classifier[4].weight, state["classifier.4.weight"])


def test_aliases_are_dropped_when_they_are_equal(tmp_path):
    """DeepHash-pytorch saves every layer twice and ends in ``hash_layer``."""
    state = {key.replace("fc.", "hash_layer."): value for key, value in foreign("resnet18").items()}
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    twice = {
        f"feature_layers.{places[key.partition('.')[0]]}.{key.partition('.')[2]}": value
        for key, value in state.items()
        if key.partition(".")[0] in places
    }
    model = import_checkpoint(saved(tmp_path, state | twice))
    assert model.arch.encoder == "resnet18"
    assert model.history[0].settings["aliases"] == list(twice)
    twice["feature_layers.0.weight"] = twice["feature_layers.0.weight"] + 1
    with pytest.raises(CheckpointError, match=r"feature_layers.0.weight looks like a second name .* differs"):
        import_checkpoint(saved(tmp_path, state | twice))


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def changed(name, make):
    return lambda state: state | {name: make(state[name])}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("resnet20", without("layer3.2.bn2.bias"), "nearest is resnet20 with 1 mismatch, the first: layer3.2.bn2.bias"),
        ("resnet20", changed("layer2.1.conv1.weight", lambda w: w[:3]), r"layer2.1.conv1.weight is \(3, 8, 3, 3\)"),
        (
            "resnet18",
            changed("conv1.weight", lambda w: w[..., :5]),
            r"conv1.weight is \(4, 3, 7, 5\), should be \(4, 3",
        ),
        (
            "vgg16",
            lambda state: state | {"features.30.weight": torch.zeros(2)},
            r"features.30.weight \(2,\) is unknown",
        ),
        ("alexnet", changed("classifier.1.weight", lambda w: w[:, :-1]), "nearest is alexnet"),
        ("resnet20", changed("bn1.weight", lambda w: w * torch.nan), "bn1.weight holds values that are not finite"),
        (
            "resnet20",
            changed("conv1.weight", lambda w: w.long()),
            "conv1.weight is torch.int64, should be torch.float32",
        ),
        (
            "resnet20",
            lambda state: {"a": torch.zeros(3)},
            r"fits no encoder, not one tensor agrees by name and shape \(a \(3,\)",
        ),
    ],
)
def test_what_fits_no_encoder_is_told_from_the_nearest(tmp_path, name, change, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        import_checkpoint(saved(tmp_path, change(foreign(name))))
    assert "\n" not in str(caught.value)


def test_asking_for_another_encoder_or_format(tmp_path):
    path = saved(tmp_path, foreign("resnet20"))
    with pytest.raises(CheckpointError, match="nearest is resnet32 with"):
        import_checkpoint(path, encoder="resnet32")
    with pytest.raises(InputError, match="did you mean 'alexnet'"):
        import_checkpoint(path, encoder="alexnett")
    with pytest.raises(CheckpointError, match="did you mean 'torchvision'"):
        import_checkpoint(path, format="torchvison")
    with pytest.raises(CheckpointError, match="format 'torchvision' knows no encoder 'resnet20'"):
        import_checkpoint(path, format="torchvision", encoder="resnet20")
    with pytest.raises(InputError, match="at least one bit"):
        import_checkpoint(path, bits=0)
    gray = ImageInput((1, 32, 32), (0.5,), (0.5,))
    with pytest.raises(CheckpointError, match=r"conv1.weight is \(4, 3, 3, 3\), should be \(4, 1, 3, 3\)"):
        import_checkpoint(path, input=gray)
    small = ImageInput((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(CheckpointError, match=r"nearest is alexnet with 1 mismatch, the first: alexnet needs .* 63x63"):
        import_checkpoint(saved(tmp_path, foreign("alexnet"), "alex.pth"), input=small)
    assert import_checkpoint(path, input=ImageInput((3, 48, 48), (0.5,) * 3, (0.5,) * 3)).arch.input.shape == (
        3,
        48,
        48,
    )


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write",
    [
        torch.save,
        lambda what, path: torch.save(what, path, _use_new_zipfile_serialization=False),
        lambda what, path: path.write_bytes(pickle.dumps(what, protocol=2)),
        lambda what, path: path.write_bytes(pickle.dumps(what, protocol=4)),
    ],
)
def test_pickle_with_code_is_refused_in_one_line_and_not_run(tmp_path, write):
    trap, path = tmp_path / "trap", tmp_path / "net.pth"
    write(foreign("resnet20") | {"x": Hostile(trap)}, path)
    with pytest.raises(
        CheckpointError, match=r"may run code when it is opened \(.*hashpress import --unpickle"
    ) as caught:
        import_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_whole_modules_are_refused_with_the_command_that_converts_them(tmp_path):
    path = saved(tmp_path, nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(CheckpointError, match=r"Sequential.*hashpress import --unpickle"):
        import_checkpoint(path)
    kept = safetensors.torch.load_file(convert(path, tmp_path / "out.safetensors"))
    assert set(kept) == {"0.weight", "0.bias"}


def test_unpickling_replaces_classes_that_are_not_installed(tmp_path, monkeypatch):
    """As HashNet's files need: a module whose class nobody else has."""
    maker = build(default_arch("resnet20", 10, widths=[4, 8, 16]))
    inner = type("Lost", (nn.Module,), {"__module__": "lost_code"})
    module = type(os)("lost_code")
    module.Lost = inner
    monkeypatch.setitem(__import__("sys").modules, "lost_code", module)
    lost = inner()
    for name, child in maker.encoder.named_children():
        lost.add_module(name, child)
    lost.add_module("linear", maker.head)
    path = saved(tmp_path, {"net": lost, "epoch": 1})
    monkeypatch.delitem(__import__("sys").modules, "lost_code")
    model = import_checkpoint(path, unpickle=True)
    assert model.arch.encoder == "resnet20"
    assert model.history[0].settings["unpickled"] is True
    assert torch.equal(model.net.encoder.layer3[0].conv1.weight, maker.encoder.layer3[0].conv1.weight)


def test_unpickling_that_fails_says_why_in_one_line(tmp_path):
    (tmp_path / "text").write_text("no pickle")
    (tmp_path / "list").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list")
    for name, words in (("text", "is a text file"), ("list", "no tensors in it"), ("gone", "no checkpoint at")):
        with pytest.raises(CheckpointError, match=words) as caught:
            import_checkpoint(tmp_path / name, unpickle=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_damage_is_answered_in_one_line(tmp_path, kind):
    path = tmp_path / "net"
    if kind == "safetensors":
        safetensors.torch.save_file(foreign("resnet20"), path)
    else:
        torch.save(foreign("resnet20"), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    damages = [whole[:size] for size in (0, 1, 9, 100, len(whole) // 2, len(whole) - 1)]
    damages += [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(0, 300, 29)]
    messages = []
    for damage in damages:
        path.write_bytes(damage)
        try:
            import_checkpoint(path)
        except CheckpointError as fault:
            messages.append(str(fault))
    assert len(messages) >= 6
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2, 3], "holds a list, not a state dict"),
        ({}, "holds 0 entries"),
        ({"weights": 3, "more": "text"}, "holds 2 entries, 0 of them tensors"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_other_contents(tmp_path, content, words):
    with pytest.raises(CheckpointError, match=words):
        import_checkpoint(saved(tmp_path, content))


def test_tensors_larger_than_the_file_are_not_believed(tmp_path):
    huge = torch.zeros(1).expand(2**40, 3, 3, 3)
    with pytest.raises(CheckpointError, match="more than the whole file holds"):
        import_checkpoint(saved(tmp_path, {"conv1.weight": huge}))


def test_no_file_a_folder_a_zip_and_a_model_file_of_our_own(tmp_path):
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            import_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(CheckpointError, match="is a zip archive of 1 entries, its first entry 'readme'"):
        import_checkpoint(tmp_path / "a.zip")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "own", {"hashpress": "{}"})
    with pytest.raises(CheckpointError, match="needs no import"):
        import_checkpoint(tmp_path / "own")
