"""Every mistake a user can make is answered in one line, with exit code 2, and leaves nothing half-written."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from program import refused
from reports import report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compres"], "Did you mean 'compress'"),
        (["check"], "Missing"),
        (["check", "r.json", "--budgte", "b"], "--budget"),
        (["train", "--bits", "0", "-o", "x"], "--bits"),
        (["train", "--bits", "many", "-o", "x"], "--bits"),
        (["ls", "system"], "did you mean 'systems'"),
        (["train", "--system", "dpsch", "-o", "x"], "did you mean 'dpsh'"),
        (["train", "--encoder", "lenet30", "-o", "x"], "did you mean 'lenet300'"),
        (["train", "--lr", "-1", "-o", "x"], "lr must be positive"),
        (["train", "--encoder", "os:system", "-o", "x"], "trust"),
        (["train", "--data", "digits:here", "-o", "x"], "takes no path"),
        (["train", "--data", "mnist:/no/such/folder", "-o", "x"], "/no/such/folder"),
        (["train", "--data", "mnsit:x", "-o", "x"], "did you mean 'mnist'"),
        (["train", "--data", "digits", "--protocol", "Z", "-o", "x"], "Z"),
        (["compile", "none.safetensors", "-o", "x"], "none.safetensors"),
        (["profile", "none.bundle"], "none.bundle"),
        (["encode", "none.safetensors", "x.png", "-o", "x.npy"], "none.safetensors"),
        (["export", "none.safetensors", "-o", "x.onnx"], "none.safetensors"),
        (["import", "none.pth", "-o", "x"], "none.pth"),
        (["report", "none.json"], "none.json"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def damaged(kind, whole):
    if kind == "truncated":
        return whole[: len(whole) // 2]
    if kind == "flipped":
        middle = len(whole) // 2
        return whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    if kind == "oversized header":
        return (2**62).to_bytes(8, "little") + whole[8:]
    if kind == "pickle":
        return pickle.dumps({"weight": 1})
    return {"empty": b"", "text": b"hello\n" * 100}[kind]


@pytest.mark.parametrize("kind", ["truncated", "flipped", "oversized header", "pickle", "empty", "text"])
@pytest.mark.parametrize("verb", ["show", "evaluate", "compress", "export"])
def test_damaged_model_files(model_file, tmp_path, capsys, kind, verb):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damaged(kind, model_file.read_bytes()))
    more = {"compress": ["--recipe", "deep-compression", "-o", tmp_path / "out"], "export": ["-o", tmp_path / "out"]}
    assert "bad.safetensors" in refused(capsys, verb, path, *more.get(verb, []))
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.safetensors"]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil-was-here",))


def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Evil()}, "evil.pth")
    line = refused(capsys, "import", "evil.pth", "-o", "out.safetensors")
    assert "--unpickle" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pth"]


def test_a_checkpoint_that_fits_no_encoder(tmp_path, capsys):
    torch.save({"layer.weight": torch.zeros(3, 5)}, tmp_path / "odd.pth")
    assert "fits no encoder" in refused(capsys, "import", tmp_path / "odd.pth", "-o", tmp_path / "out.safetensors")


def test_all_errors_of_a_recipe_at_once(model_file, tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[[pass]]\nname = "share"\nbits = 99\n[[pass]]\nname = "prunn"\n[[pass]]\nname = "prune"\ndenstiy = 0.5\n'
        '[[pass]]\nname = "fold"\n'
    )
    line = refused(capsys, "compress", model_file, "--recipe", recipe, "-o", tmp_path / "out.safetensors")
    for part in ("bits", "did you mean 'prune'", "denstiy", "must come before prune"):
        assert part in line
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_an_empty_image_folder(tmp_path, capsys):
    assert str(tmp_path) in refused(capsys, "train", "--data", f"imagefolder:{tmp_path}", "-o", tmp_path / "x")


def test_a_folder_of_mixed_sizes(tmp_path, capsys):
    for place, size in enumerate([(8, 8), (9, 9), (8, 8), (9, 9)]):
        folder = tmp_path / f"class{place % 2}"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", size).save(folder / f"{place}.png")
    assert "size=" in refused(capsys, "train", "--data", f"imagefolder:{tmp_path}", "-o", tmp_path / "x")


def test_a_budget_in_an_unknown_unit(tmp_path, capsys):
    (tmp_path / "b.toml").write_text('storage.file = "3 furlongs"\nlatency.p5 = "1 ms"')
    report().save(tmp_path / "report.json")
    line = refused(capsys, "check", tmp_path / "report.json", "--budget", tmp_path / "b.toml")
    assert "unknown unit 'furlongs'" in line
    assert "did you mean 'latency.p50'" in line


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("x.npy", lambda path: np.save(path, np.zeros((2, 1, 9, 9), np.uint8)), "(1, 8, 8)"),
        ("x.npy", lambda path: np.save(path, np.zeros((2, 1, 8, 8), np.float32)), "float32"),
        ("x.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "x.npy"),
        ("x.npy", lambda path: path.write_bytes(b"no"), "x.npy"),
        ("x.png", lambda path: path.write_bytes(b"no"), "x.png"),
        ("x.png", lambda path: None, "x.png"),
    ],
)
def test_encode_what_is_no_input(model_file, tmp_path, capsys, name, make, message):
    make(tmp_path / name)
    assert message in refused(capsys, "encode", model_file, tmp_path / name, "-o", tmp_path / "codes.npy")
    assert not (tmp_path / "codes.npy").exists()
