"""``encode`` takes photos as they lie about, and the same photo has the same code by every route."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hashpress.cli.main import run
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import untrained
from hashpress.modelfile.file import load, save
from PIL import Image


def photo(seed: int, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((size[0] * 2, size[1] * 2))
    return image if mode == "RGB" else image.convert(mode)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HASHPRESS_CACHE", str(tmp_path / "cache"))
    for how in ("stretch", "crop", "pad"):
        arch = Arch("lenet300", 32, ImageInput((3, 8, 8), (0.4,) * 3, (0.3,) * 3, how))
        save(untrained(arch, seed=0), tmp_path / f"{how}.safetensors")
    for place in ("a", "b"):
        (tmp_path / "photos" / place).mkdir(parents=True)
    kinds = {"rgb.png": "RGB", "grey.png": "L", "alpha.png": "RGBA", "palette.gif": "P", "cmyk.jpg": "CMYK"}
    for seed, (name, mode) in enumerate(kinds.items()):
        photo(seed, mode).save(tmp_path / "photos" / "ab"[seed % 2] / name)
    deep = np.random.default_rng(7).integers(0, 65536, (24, 40), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "photos" / "a" / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(8).save(tmp_path / "photos" / "b" / "turned.jpg", exif=exif)
    photo(9).save(tmp_path / "photos" / "b" / "broken.jpg", exif=b"Exif\0\0\xff\x13junk")
    (tmp_path / "photos" / "a" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "photos" / "a" / "notes.txt").write_text("no image")
    return tmp_path


def encode(*words: str, code: int = 0) -> tuple[np.ndarray, list[str]]:
    assert run(["encode", *words, "-o", "codes.npy", "--names", "names.txt"]) == code
    if code:
        return np.empty(0), []
    return np.load("codes.npy"), [os.fsdecode(line) for line in Path("names.txt").read_bytes().splitlines()]


def test_folders_lists_and_standard_input_give_the_same_codes(folder, monkeypatch):
    codes, names = encode("stretch.safetensors", "photos")
    assert names == sorted(names)
    assert len(names) == len(codes) == 8
    (folder / "list.txt").write_text("\n".join(names) + "\n\n")
    listed, again = encode("stretch.safetensors", "@list.txt")
    assert again == names
    assert (listed == codes).all()
    one, _ = encode("stretch.safetensors", names[3])
    assert (one[0] == codes[3]).all()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(names[::-1]).encode())))
    piped, backwards = encode("stretch.safetensors", "-")
    assert backwards == names[::-1]
    assert (piped[::-1] == codes).all()


def test_unreadable_files_are_named_or_skipped(folder, capsys):
    (folder / "photos" / "a" / "aaa.jpg").write_bytes(b"\xff\xd8 cut")
    (folder / "photos" / "b" / "zzz.png").write_bytes(b"")
    encode("stretch.safetensors", "photos", code=2)
    error = capsys.readouterr().err
    assert "2 of 10 inputs cannot be read" in error
    assert "aaa.jpg" in error
    assert "zzz.png" in error
    assert "--skip-unreadable" in error
    codes, names = encode("stretch.safetensors", "photos", "--skip-unreadable")
    assert len(codes) == len(names) == 8
    assert capsys.readouterr().err.count("warning: skipped") == 2
    (folder / "empty").mkdir()
    encode("stretch.safetensors", "empty", code=2)
    assert "holds no images" in capsys.readouterr().err
    encode("stretch.safetensors", "@none.txt", code=2)
    assert "none.txt" in capsys.readouterr().err


def test_names_need_not_be_utf8(folder):
    odd = os.fsdecode(b"photos/a/\xff\xe9.png")
    photo(30).save(folder / "good.png")
    (folder / odd).write_bytes((folder / "good.png").read_bytes())
    codes, names = encode("stretch.safetensors", "photos", "good.png")
    assert odd in names
    assert (codes[names.index(odd)] == codes[-1]).all()


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
def test_a_photo_has_one_code_by_every_route(folder, how):
    codes, names = encode(f"{how}.safetensors", "photos")
    model = load(f"{how}.safetensors")
    assert model.arch.input.resize == how
    whole, _ = encode(f"{how}.safetensors", "imagefolder:photos?size=8")
    assert sorted(map(bytes, whole)) == sorted(map(bytes, codes)), "data sets are resized as the network says"
    image = Image.open(folder / "photos" / "a" / "rgb.png").convert("RGB")
    if how == "crop":
        image = image.crop((8, 0, 32, 24))
    if how == "pad":
        image = image.resize((8, 5), Image.Resampling.BILINEAR)
        square = Image.new("RGB", (8, 8))
        square.paste(image, (0, 2))
        image = square
    image = image.resize((8, 8), Image.Resampling.BILINEAR)
    np.save("array.npy", np.asarray(image).transpose(2, 0, 1))
    by_hand, _ = encode(f"{how}.safetensors", "array.npy")
    assert (by_hand[0] == codes[names.index("photos/a/rgb.png")]).all()


def test_a_bundle_gives_the_codes_of_its_model(folder):
    for how in ("stretch", "crop"):
        codes, names = encode(f"{how}.safetensors", "photos")
        assert run(["compile", f"{how}.safetensors", "-o", f"{how}.bundle"]) == 0
        bundled, again = encode(f"{how}.bundle", "photos")
        assert again == names
        assert (bundled == codes).all()
    assert (codes != encode("stretch.safetensors", "photos")[0]).any()


def test_training_records_how_images_are_resized(folder, capsys):
    data = "imagefolder:photos?size=8"
    words = ["--encoder", "lenet300", "--bits", "8", "--epochs", "1", "--batch", "4"]
    assert run(["train", *words, "--data", data, "--resize", "crop", "-o", "m.safetensors"]) == 0
    assert load("m.safetensors").arch.input.resize == "crop"
    assert run(["evaluate", "m.safetensors", "--data", data]) == 0
    assert "warning" not in capsys.readouterr().err, "the same images, resized alike"
    assert run(["evaluate", "m.safetensors", "--data", f"{data}&resize=pad"]) == 2
    assert "resizes images by crop" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "--init",
                "m.safetensors",
                "--data",
                data,
                "--epochs",
                "1",
                "--resize",
                "pad",
                "-o",
                "n.safetensors",
            ]
        )
        == 0
    )
    assert load("n.safetensors").arch.input.resize == "pad"


def test_the_cache_says_what_it_holds_and_can_be_cleared(folder, capsys):
    encode("stretch.safetensors", "imagefolder:photos?size=8")
    capsys.readouterr()
    assert run(["cache"]) == 0
    out = capsys.readouterr().out
    assert str(folder / "cache" / "images") in out.replace("\n", "")
    assert "photos" in out
    assert run(["cache", "clear"]) == 0
    assert "1 data sets" in capsys.readouterr().out
    assert not list((folder / "cache" / "images").iterdir())
    assert run(["cache", "wipe"]) == 2


@pytest.mark.parametrize(
    "parts", [("training", "testing"), ("Train", "Test"), ("train", "val"), ("TRAINING", "Validation")]
)
def test_part_folders_of_other_names_are_no_classes(folder, parts):
    for part in parts:
        for name in "abc":
            (folder / "set" / part / name).mkdir(parents=True)
            photo(ord(name)).save(folder / "set" / part / name / "x.png")
    split = load_data("imagefolder:set?size=8")
    assert split.classes == ("a", "b", "c")
    assert (len(split.train), len(split.queries)) == (3, 3)


def test_class_names_that_are_not_utf8(folder, capsys):
    for name in (b"a", b"\xe9t\xe9"):
        place = folder / "odd" / os.fsdecode(name)
        place.mkdir(parents=True)
        for number in range(6):
            photo(number + name[0]).save(place / f"{number}.png")
    words = ["--encoder", "lenet300", "--bits", "8", "--epochs", "1"]
    assert run(["train", *words, "--data", "imagefolder:odd?size=8", "-o", "m.safetensors"]) == 0
    assert run(["evaluate", "m.safetensors", "--data", "imagefolder:odd?size=8"]) == 0
    out = capsys.readouterr().out
    assert "2 queries" in out
    assert "P@100" not in out, "the database has ten images"


def test_show_sums_layers_up(folder, capsys):
    assert run(["show", "crop.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "head.weight" not in out
    assert "  head " in out
    assert run(["show", "crop.safetensors", "--tensors"]) == 0
    assert "head.weight" in capsys.readouterr().out
