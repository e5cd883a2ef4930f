"""Image folders and tars: layouts, formats, colours, and everything a folder can do wrong."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hashpress.core.data import load_data
from hashpress.core.data.class_folders import arrange
from hashpress.core.data.image_files import decode
from hashpress.core.data.spec import Spec
from hashpress.core.errors import DataError
from PIL import Image

SPEC = Spec("imagefolder", Path("x"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HASHPRESS_CACHE", str(folder))
    return folder


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    return encoded(Image.new("RGB", size, (value, 0, 255)), "PNG")


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def tree(root: Path, contents: dict[str, bytes]) -> str:
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return f"imagefolder:{root}"


def tar(path: Path, contents: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return f"imagefolder:{path}"


def flat(count: int = 10) -> dict[str, bytes]:
    return {f"{name}/{i}.png": png(10 * i + k) for k, name in enumerate(("cat", "dog")) for i in range(count)}


def divided() -> dict[str, bytes]:
    return {f"{part}/{name}": data for part in ("train", "test") for name, data in flat(3).items()}


def reds(images) -> list[int]:
    return sorted(images.pixels[:, 0, 0, 0].tolist())


def test_class_folders_without_parts(tmp_path):
    split = load_data(tree(tmp_path, flat()))
    assert split.classes == ("cat", "dog")
    assert split.train.pixels.shape == (16, 3, 4, 4)
    assert len(split.queries) == 4
    for images in (split.train, split.queries):
        assert (images.pixels[:, 0, 0, 0] % 10 == images.labels).all()
        assert (images.pixels[:, 2] == 255).all()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./", "set/", "a/b/"])
def test_tars_of_any_compression_and_prefix_give_what_the_folder_gives(tmp_path, mode, prefix):
    folder = load_data(tree(tmp_path / "folder", divided()))
    contents = {prefix + name: data for name, data in reversed(divided().items())}
    archive = load_data(tar(tmp_path / "archive", contents, mode))
    assert archive.digest == folder.digest
    assert folder.protocol == "B"
    assert reds(folder.queries) == [0, 1, 10, 11, 20, 21]


def test_val_stands_in_for_test_and_is_unused_beside_it(tmp_path):
    renamed = {name.replace("test/", "val/"): data for name, data in divided().items()}
    assert len(load_data(tree(tmp_path / "a", renamed)).queries) == 6
    extra = {**divided(), "val/cat/9.png": png(99), "val/dog/9.png": png(99)}
    both = load_data(tree(tmp_path / "b", extra))
    assert 99 not in reds(both.queries) + reds(both.train)


def test_classes_are_mixed_although_files_come_class_by_class(tmp_path):
    contents = {f"{part}/{c}/{i}.png": png(0) for part in ("train", "test") for c in ("a", "b") for i in range(50)}
    split = load_data(tree(tmp_path, contents))
    for images in (split.train, split.queries):
        assert 10 < images.labels[:50].sum() < 40


def test_hidden_and_other_files_are_left_alone(tmp_path):
    extra = {"cat/.hidden.png": b"x", ".git/dog/a.png": b"x", "README.txt": b"x", "cat/Thumbs.db": b"x"}
    assert len(load_data(tree(tmp_path, {**flat(), **extra})).train) == 16


def test_limit_is_the_same_for_folder_and_tar_and_decodes_only_what_it_keeps(tmp_path):
    contents = flat(10)
    folder = load_data(tree(tmp_path / "folder", contents) + "?limit=6")
    archive = load_data(tar(tmp_path / "a.tar", contents) + "?limit=6")
    assert len(folder.train) + len(folder.queries) == 6
    ours, theirs = (sorted(reds(s.train) + reds(s.queries)) for s in (folder, archive))
    assert len(ours) == len(theirs)
    kept = {f"{n}/{i}.png" for k, n in enumerate(("cat", "dog")) for i in range(10) if 10 * i + k in ours}
    broken = {name: data if name in kept else b"broken" for name, data in contents.items()}
    assert len(load_data(tree(tmp_path / "broken", broken) + "?limit=6").train) == len(folder.train)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_formats_decode_as_pillow_does(form):
    picture = Image.effect_mandelbrot((12, 8), (-3, -2.5, 2, 2.5), 50).convert("RGB")
    data = encoded(picture, form)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decode(data, "x", SPEC) == theirs.transpose(2, 0, 1)).all()
    small = np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((5, 5), Image.Resampling.BILINEAR))
    assert (decode(data, "x", Spec("imagefolder", None, size=5, gray=True)) == small[None]).all()


def test_odd_colours():
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert (decode(encoded(clear, "PNG"), "x", SPEC) == 255).all()
    palette = Image.new("RGB", (2, 2), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode(encoded(palette, "PNG"), "x", SPEC)[:, 0, 0].tolist() == [9, 8, 7]
    deep = Image.fromarray(np.full((2, 2), 0x8011, np.uint16))
    assert (decode(encoded(deep, "PNG"), "x", SPEC) == 0x80).all()
    assert decode(encoded(Image.new("1", (2, 2), 1), "PNG"), "x", SPEC).max() == 255
    with pytest.raises(DataError, match="mode F"):
        decode(encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "x", SPEC)


def test_photographs_stand_upright():
    picture = Image.new("RGB", (8, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue(), "x", SPEC).shape == (3, 8, 4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def bomb(side: int) -> bytes:
    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8000, 12000, 60000])
def test_decompression_bombs_are_refused_before_decoding(side):
    with pytest.raises(DataError, match=r"decompression bomb|the most is 50,000,000 pixels"):
        decode(bomb(side), "bomb.png", SPEC)


def test_postscript_is_never_run():
    with pytest.raises(DataError, match="cannot identify image file"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "a.png", SPEC)


BAD = {
    "empty": ({}, "holds no images"),
    "no pictures": ({"cat/readme.txt": b"x"}, "holds no images"),
    "outside": ({**flat(2), "stray.png": png(0)}, "stray.png outside a class folder"),
    "one class": ({"cat/a.png": png(0), "cat/b.png": png(1)}, "single class folder, cat"),
    "mixed parts": ({**divided(), "bird/a.png": png(0)}, "bird/a.png outside"),
    "no train": ({f"test/{name}": data for name, data in flat(2).items()}, "no train folder"),
    "sizes": ({**flat(2), "dog/z.png": png(0, (5, 6))}, r"cat/0.png \(4x4\) and dog/z.png \(5x6\); add \?size="),
    "unreadable": ({**flat(2), "dog/z.png": b"not a picture"}, "dog/z.png in .* cannot be read as an image"),
    "truncated": ({**flat(2), "dog/z.jpg": encoded(Image.new("RGB", (4, 4)), "JPEG")[:-30]}, "dog/z.jpg"),
    "zero bytes": ({**flat(2), "dog/z.png": b""}, "dog/z.png"),
}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_answered_in_one_line(tmp_path, own_cache, case, archived):
    contents, words = BAD[case]
    (tmp_path / "folder").mkdir()
    spec = tar(tmp_path / "a.tar", contents) if archived else tree(tmp_path / "folder", contents)
    with pytest.raises(DataError, match=words) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    assert list((own_cache / "images").iterdir()) == []  # nothing half-written remains


def test_size_option_reconciles_mixed_sizes(tmp_path):
    spec = tree(tmp_path, {**flat(2), "dog/z.png": png(0, (5, 6))})
    assert load_data(spec + "?size=8").train.pixels.shape[1:] == (3, 8, 8)
    assert load_data(spec + "?size=8&gray=1").train.pixels.shape[1:] == (1, 8, 8)


@pytest.mark.parametrize("name", ["../cat/a.png", "/cat/a.png", "cat/../../a.png"])
def test_tar_members_that_leave_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="leaves it"):
        load_data(tar(tmp_path / "a.tar", {**flat(2), name: png(0)}))


def test_tar_links_and_devices_are_refused(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        path = tmp_path / f"{kind!r}.tar"
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("cat/a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        with pytest.raises(DataError, match="link or device"):
            load_data(f"imagefolder:{path}")


def test_damaged_tars_are_refused(tmp_path):
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        tar(tmp_path / "whole", divided(), mode)
        whole = (tmp_path / "whole").read_bytes()
        path = tmp_path / "damaged"
        for data in (whole[: len(whole) // 2], b"", b"no archive at all", whole[:200] + bytes(90) + whole[290:]):
            path.write_bytes(data)
            with pytest.raises(DataError, match="damaged") as caught:
                load_data(f"imagefolder:{path}")
            assert "\n" not in str(caught.value)


def test_links_inside_a_folder_are_followed_but_not_in_circles(tmp_path):
    contents = flat(3)
    tree(tmp_path / "elsewhere", {name: contents[name] for name in contents if name.startswith("dog")})
    root = tmp_path / "set"
    tree(root, {name: contents[name] for name in contents if name.startswith("cat")})
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / "cat" / "again").symlink_to(root)
    split = load_data(f"imagefolder:{root}")
    assert len(split.train) + len(split.queries) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_a_folder_without_permission_is_named(tmp_path):
    spec = tree(tmp_path, flat(2))
    (tmp_path / "dog").chmod(0)
    with pytest.raises(DataError, match="cannot read"):
        load_data(spec)
    (tmp_path / "dog").chmod(0o755)


def test_files_below_a_class_folder_belong_to_the_class():
    layout = arrange(["train/cat/a/1.png", "train/cat/2.png", "train/dog/3.png", "val/dog/4.png"], "x")
    assert layout.classes == ("cat", "dog")
    assert layout.label.tolist() == [0, 0, 1, 1]
    assert layout.indices("train").tolist() == [0, 1, 2]
    assert layout.indices("test", "val").tolist() == [3]
