"""Atomic writes under every way a write can fail; look-ups; surgery; progress."""

import errno
import hashlib
import os
import signal
import subprocess
import sys

import pytest
from hashpress.core.errors import DataError, HashpressError, InputError, RecipeError, lookup
from hashpress.core.files import atomic_write, sha256_file
from hashpress.core.layers import get_layer, set_layer
from hashpress.core.progress import reporting, track
from torch import nn


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path, "w") as handle:
        handle.write("nüw")
        handle.flush()
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "nüw"
    assert names(tmp_path) == ["file"]


def test_the_file_gets_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file") as handle:
            handle.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


class BoomError(Exception):
    pass


@pytest.mark.parametrize("fault", [BoomError("boom"), KeyboardInterrupt()])
def test_a_fault_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, fault):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with atomic_write(path) as handle:
            handle.write(b"half")
            raise fault

    with pytest.raises(type(fault)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, call):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_text("old")
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match=r"cannot write .*file: No space left on device"), atomic_write(path) as handle:
        handle.write(b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_missing_folder(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot write .*nowhere/file: No such file or directory"),
        atomic_write(tmp_path / "nowhere" / "file"),
    ):
        pass


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(InputError, match="cannot write"), atomic_write(tmp_path / "file") as handle:
        handle.write(b"x")
    assert names(tmp_path) == ["file"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import sys, time\n"
        "from hashpress.core.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as handle:\n"
        "    handle.write(b'half'); handle.flush(); print('writing', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert path.read_text() == "old"


def test_sha256(tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_lookup_says_what_exists_and_what_was_meant():
    registry = {"prune": 1, "share": 2}
    assert lookup(registry, "share", "pass") == 2
    with pytest.raises(RecipeError) as caught:
        lookup(registry, "prun", "pass", RecipeError)
    assert str(caught.value) == "unknown pass 'prun'; did you mean 'prune'? (there are: prune, share)"
    with pytest.raises(DataError, match=r"unknown thing 'zzz' \(there are: prune, share\)"):
        lookup(registry, "zzz", "thing", DataError)


def test_recipe_errors_hold_all_problems():
    fault = RecipeError(["one", "two"])
    assert fault.problems == ("one", "two")
    assert str(fault) == "one; two"


def test_every_error_has_its_exit_code():
    def tree(kind):
        return [kind, *(found for child in kind.__subclasses__() for found in tree(child))]

    codes = {kind.__name__: kind.exit_code for kind in tree(HashpressError) if kind.__module__.startswith("hashpress")}
    assert codes.pop("HashpressError") == 1
    assert codes.pop("OverBudgetError") == 3
    assert codes.pop("DeviceError") == 4
    assert codes.pop("InconclusiveError") == 5
    assert codes.pop("InterruptedRunError") == 130
    assert set(codes.values()) == {2}


def test_surgery_by_dotted_path():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)))
    new = nn.Linear(3, 5)
    set_layer(net, "1.1", new)
    assert get_layer(net, "1.1") is new
    assert net[1][1] is new
    for path in ("2", "1.7", "0.weight.x"):
        with pytest.raises(InputError, match=f"no layer '{path}'"):
            get_layer(net, path)
        with pytest.raises(InputError):
            set_layer(net, path, new)


def test_progress_reports_to_whoever_listens():
    heard = []
    with reporting(lambda what, done, total: heard.append((what, done, total))):
        assert list(track(["a", "b"], "letters")) == ["a", "b"]
        assert list(track(iter("a"), "some")) == ["a"]
        assert list(track(iter("a"), "known", total=1)) == ["a"]
    assert heard == [
        ("letters", 0, 2),
        ("letters", 1, 2),
        ("letters", 2, 2),
        ("some", 0, None),
        ("some", 1, None),
        ("known", 0, 1),
        ("known", 1, 1),
    ]
    assert list(track("ab", "unheard")) == ["a", "b"]


def test_progress_that_nobody_hears_costs_nothing_but_the_items():
    class Uncounted(list):
        def __len__(self):
            raise AssertionError("nobody asked how many")

    assert list(track(Uncounted([1, 2]), "numbers")) == [1, 2]
    with pytest.raises(AssertionError, match="nobody asked"), reporting(lambda *_: None):
        list(track(Uncounted([1, 2]), "numbers"))


def test_a_file_system_that_is_really_full(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a tiny file system here")
    try:
        (folder / "file").write_text("old")
        with pytest.raises(InputError, match="No space left on device"), atomic_write(folder / "file") as handle:
            handle.write(bytes(200_000))
        assert (folder / "file").read_text() == "old"
        assert names(folder) == ["file"]
    finally:
        subprocess.run(["umount", folder], check=True)
