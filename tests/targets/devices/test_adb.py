"""Bundles on Android devices: the real adb client against a device that speaks adb's transport and runs ARM by qemu."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from conftest import codes_of, needs_program
from hashpress.cli.main import run
from hashpress.core.errors import InputError
from hashpress.targets.devices.adb import AdbTransport, state_line
from hashpress.targets.devices.table import parse_device
from program import refused

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
CPUINFO = """\
processor\t: 0
Features\t: fp asimd aes pmull sha1 sha2 crc32
CPU implementer\t: 0x41
CPU part\t: 0xd03
processor\t: 1
Features\t: fp asimd aes pmull sha1 sha2 crc32
CPU implementer\t: 0x41
CPU part\t: 0xd08
"""


@pytest.fixture
def phone(tmp_path) -> dict[str, str]:
    """What makes the stand-in an AArch64 phone: programs run through qemu, files of the system are a phone's."""
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "zone").mkdir()
    (tmp_path / "zone" / "temp").write_text("41300\n")
    return {
        "./hashnet-run": "qemu-aarch64 ./hashnet-run",
        "uname -m": "echo aarch64",
        'cat "$f"': f'{{ case $f in */cpuinfo) cat {tmp_path}/cpuinfo;; *) cat "$f";; esac; }}',
        "/sys/class/thermal/thermal_zone*/temp": f"{tmp_path}/zone/temp",
        "/sys/devices": "/sys/none",
        "command -v getprop": "getprop() { echo Fairphone; }; command -v getprop",
    }


@needs_program("qemu-aarch64", "qemu-user")
def test_codes_come_from_the_phone(adb, phone, bundle_of, built, tmp_path, capsys):
    device, bundle = adb(rewrite=phone), bundle_of(built("aarch64"), needs=["asimd"], machine="aarch64")
    np.save(tmp_path / "p.npy", PIXELS)
    words = ["encode", str(bundle), str(tmp_path / "p.npy"), "-o", str(tmp_path / "c.npy"), "--device", "adb"]
    for _ in range(2):
        assert run(words) == 0, capsys.readouterr().err
    assert np.array_equal(np.load(tmp_path / "c.npy"), codes_of(PIXELS))
    names = [path.rpartition("/")[2] for path in device.received]
    assert len(names) == len(set(names)) + 1 == 6  # four files once, pixels twice
    assert sorted(path.name for path in (tmp_path / "data" / "hashpress").iterdir()) == ["lock", "store"]


@needs_program("qemu-aarch64", "qemu-user")
def test_a_build_for_a_newer_core_is_refused_before_anything_is_sent(adb, phone, bundle_of, built, tmp_path, capsys):
    device, bundle = adb(rewrite=phone), bundle_of(built("aarch64"), needs=["asimd", "asimddp"], machine="aarch64")
    line = refused(capsys, "profile", bundle, "--device", f"adb:{device.serial}")
    assert f"needs asimddp, which adb:{device.serial} (1 x Cortex-A53, 1 x Cortex-A72) does not have" in line
    assert device.received == []


def test_wrong_architecture(adb, phone, bundle_of, built, capsys):
    device = adb(rewrite=phone)
    line = refused(capsys, "profile", bundle_of(built()), "--device", "adb")
    assert "is for x86_64, adb is aarch64; compile it for a target of aarch64" in line
    assert device.received == []


def test_none_two_and_locked_devices(adb, bundle_of, built, capsys, monkeypatch):
    bundle = bundle_of(built())
    profile = ("profile", bundle, "--device")
    assert "no Android device is connected; connect one" in refused(capsys, *profile, "adb", code=4)
    assert "adb sees no device 'XYZ' (none at all)" in refused(capsys, *profile, "adb:XYZ", code=4)
    one, two = adb("one"), adb("two")
    line = refused(capsys, *profile, "adb", code=4)
    assert line.startswith("hashpress: adb sees 2 devices; name one: adb:127.0.0.1:")
    monkeypatch.setenv("ANDROID_SERIAL", one.serial)
    assert AdbTransport().connected() == one.serial
    locked = adb("locked", authorized=False)
    line = refused(capsys, *profile, f"adb:{locked.serial}", code=4)
    assert "unlock it and accept 'Allow USB debugging'" in line
    assert run(["devices"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"adb:{one.serial} model" in text
    assert f"adb:{two.serial} model" in text
    assert f"adb:{locked.serial} problem" in text
    assert "unlock it and accept 'Allow USB debugging'" in text


def test_what_the_phone_is(adb, phone, capsys):
    device = adb(rewrite=phone)
    about = parse_device(f"adb:{device.serial}").describe()
    assert (about["model"], about["arch"]) == ("Fairphone Fairphone", "aarch64")
    assert about["core_types"] == ["1 x Cortex-A53", "1 x Cortex-A72"]
    assert (about["celsius"], about["governor"], about["cores"]) == (41.3, None, 2)


def test_no_adb(bundle_of, built, capsys, monkeypatch):
    bundle = bundle_of(built())
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    line = refused(capsys, "profile", bundle, "--device", "adb", code=4)
    assert (
        line == "hashpress: adb is not installed; install it: apt-get install adb, or the Android SDK platform tools\n"
    )
    assert run(["devices"]) == 0
    assert "adb is not installed" in capsys.readouterr().out


def test_a_full_disk(adb, bundle_of, built, capsys, tmp_path):
    adb(space=20_000)
    line = refused(capsys, "profile", bundle_of(built()), "--device", "adb", code=4)
    assert "No space left on device; remove files there" in line
    assert list((tmp_path / "data").iterdir()) == []


def test_unplugged_in_the_middle(adb, bundle_of, built, capsys, tmp_path):
    device = adb()

    def unplug():
        while not any("--bench" in command for command in device.commands):
            done.wait(0.05)
        device.close()

    done = threading.Event()
    thread = threading.Thread(target=unplug, daemon=True)
    thread.start()
    line = refused(capsys, "profile", bundle_of(built(nap=60)), "--device", "adb", code=4)
    assert line.startswith("hashpress: adb: ")
    for _ in range(100):
        if not list((tmp_path / "data").iterdir()):
            break
        done.wait(0.1)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("serial", ["-x", "a b", "$(reboot)", "a'b"])
def test_serials_that_are_none(serial):
    with pytest.raises(InputError, match=r"is written adb or adb:SERIAL"):
        parse_device(f"adb:{serial}")


def test_states():
    assert state_line("no permissions (user in plugdev group)").startswith("no permissions: this user may not use")
    assert state_line("something new") == "something new: see: adb devices"
    assert os.environ.get("ANDROID_ADB_SERVER_PORT") is None
