"""Bundles on a machine behind ssh: a server of the tests' own on a port of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import codes_of
from hashpress.cli.main import run
from hashpress.core.errors import DeviceError, InputError
from hashpress.profiling.report import load_report
from hashpress.targets.devices import session as sessions
from hashpress.targets.devices.session import Session
from hashpress.targets.devices.ssh import SshTransport
from hashpress.targets.devices.table import parse_device
from program import refused

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)


def left(folder: Path) -> list[str]:
    """What lies in the folder of the device besides the files that were sent once, and the lock."""
    return (
        sorted(path.name for path in folder.iterdir() if path.name not in ("store", "lock")) if folder.exists() else []
    )


def test_codes_and_figures_come_from_the_other_side(ssh, bundle_of, built, tmp_path, capsys):
    bundle = bundle_of(built())
    np.save(tmp_path / "p.npy", PIXELS)
    encode = ["encode", str(bundle), str(tmp_path / "p.npy"), "-o", str(tmp_path / "c.npy"), "--device", ssh.device]
    assert run(encode) == 0, capsys.readouterr().err
    assert np.array_equal(np.load(tmp_path / "c.npy"), codes_of(PIXELS))
    assert run(["profile", str(bundle), "--device", ssh.device, "-o", str(tmp_path / "r.json"), "--seconds", "0"]) == 0
    report = load_report(tmp_path / "r.json")
    assert report.device == ssh.device
    assert report.figures["latency.p50"].value == pytest.approx(2.01, abs=0.005)
    assert report.figures["latency.open"].value == 1.5
    assert 100_000 < report.figures["memory.rss"].value < 50_000_000
    assert "memory.idle" not in report.figures
    assert [(layer.name, layer.cost.value) for layer in report.layers] == [("one", 0.5), ("two", 1.5)]
    assert report.machine["cores"] >= 1
    assert left(ssh.cache) == []


def test_what_lies_there_is_not_sent_again_and_can_be_removed(ssh, bundle_of, built, monkeypatch, capsys):
    sent, send = [], SshTransport.send
    monkeypatch.setattr(SshTransport, "send", lambda self, *rest: sent.append(rest[0].name) or send(self, *rest))
    device, bundle = parse_device(ssh.device), bundle_of(built())
    for _ in range(2):
        with device.push(bundle) as deployment:
            assert deployment.verify().bits == 48
            assert deployment.pull("golden.npz") == b"golden"
    assert sorted(sent) == ["golden.npz", "hashnet-run", "manifest.json", "model.safetensors"]
    damaged = max((ssh.cache / "store").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with device.push(bundle) as deployment:
        deployment.verify()
    assert len(sent) == 5
    assert run(["devices", ssh.device, "--clean"]) == 0
    assert not ssh.cache.exists()


def test_a_job_that_fails_leaves_nothing(ssh, bundle_of, built):
    bundle = bundle_of(built())
    with pytest.raises(InputError), parse_device(ssh.device).push(bundle) as deployment:
        deployment.encode(PIXELS[:, :, :4])
    assert not ssh.cache.exists()


def test_one_job_at_a_time(ssh):
    transport = SshTransport.parse(ssh.device.partition(":")[2])
    with Session(transport), pytest.raises(DeviceError, match=r"is busy for longer than 0 s: .* since \d\d:"):
        Session(transport, busy_seconds=0)
    first = Session(transport)
    threading.Timer(0.5, first.close).start()
    with Session(transport, busy_seconds=20) as second:  # waits for the first one's end
        assert second.script("pwd").text.strip() == second.job


def running(home: Path) -> list[str]:
    """The programs that run in a job's folder below ``home``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        words = read(path / "cmdline")
        if words.startswith("./hashnet-run") and str(home) in str(linked(path / "cwd")):
            found.append(words)
    return found


def linked(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def until(condition, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_nothing_stays_after_ctrl_c(ssh, bundle_of, built, capsys):
    def interrupt():
        if until(lambda: any("--bench" in words for words in running(ssh.home))):
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert "interrupted" in refused(capsys, "profile", bundle_of(built(nap=60)), "--device", ssh.device, code=130)
    assert not ssh.cache.exists()
    assert running(ssh.home) == []


def test_nothing_stays_after_a_sudden_end(ssh, bundle_of, built):
    """Nobody is left to clean up from here: the device does it."""
    code = (
        "import sys; from hashpress.targets.devices.table import parse_device\n"
        "parse_device(sys.argv[1]).push(sys.argv[2]).footprint()"
    )
    bundle = bundle_of(built(nap=60))
    process = subprocess.Popen([sys.executable, "-c", code, ssh.device, str(bundle)])
    try:
        assert until(lambda: running(ssh.home))
    finally:
        process.kill()
        process.wait()
    assert until(lambda: not ssh.cache.exists())
    assert running(ssh.home) == []


def test_a_connection_that_breaks_is_told(ssh, bundle_of, built):
    deployment = parse_device(ssh.device).push(bundle_of(built()))
    deployment.session._keeper.kill()
    deployment.session._keeper.wait()
    with pytest.raises(DeviceError, match=r"127.0.0.1:\d+: the connection broke during the job"), deployment:
        deployment.verify()
    assert until(lambda: not ssh.cache.exists())


@pytest.mark.slow
def test_a_device_that_hears_nothing_any_more_cleans_up(ssh, bundle_of, built, monkeypatch):
    """As when a cable is pulled: the connection stands for the device, but nobody speaks."""
    monkeypatch.setattr(sessions, "QUIET_SECONDS", 1)
    monkeypatch.setattr(sessions, "HEARTBEAT_SECONDS", 1000.0)
    session = Session(SshTransport.parse(ssh.device.partition(":")[2]))
    assert left(ssh.cache) != []
    assert until(lambda: not ssh.cache.exists())
    with pytest.raises(DeviceError, match="the connection"):
        session.script("true")
    session.close()


def test_a_program_that_takes_too_long_is_ended(ssh, bundle_of, built, monkeypatch):
    monkeypatch.setattr("hashpress.targets.devices.remote.JOB_SECONDS", 1.0)
    deployment = parse_device(ssh.device).push(bundle_of(built(nap=60)))
    with pytest.raises(DeviceError, match="did not answer within 1 s"), deployment:
        deployment.bench(PIXELS, 1)
    assert not ssh.cache.exists()
    assert running(ssh.home) == []


def test_folders_that_cannot_be_used(ssh, bundle_of, built, monkeypatch, capsys):
    monkeypatch.setenv("HASHPRESS_DEVICE_FOLDER", "/proc/nowhere")
    line = refused(capsys, "profile", bundle_of(built()), "--device", ssh.device, code=4)
    assert "no folder there can be written and may run programs (tried /proc/nowhere)" in line
    monkeypatch.setenv("HASHPRESS_DEVICE_FOLDER", str(ssh.home / "my own place"))
    with Session(SshTransport.parse(ssh.device.partition(":")[2])) as session:
        assert session.job.startswith(str(ssh.home / "my own place"))


def test_a_full_disk(ssh, bundle_of, built, capsys, monkeypatch, tmp_path):
    (tmp_path / "df").write_text(
        "#!/bin/sh\necho Filesystem 1K-blocks Used Available Use% Mounted\necho /dev/x 100 97 3 97% /\n"
    )
    (tmp_path / "df").chmod(0o755)
    login = ssh.login.read_text()
    ssh.login.write_text(login.replace("#!/bin/sh\n", f'#!/bin/sh\nPATH="{tmp_path}:$PATH"\n'))
    try:
        line = refused(capsys, "profile", bundle_of(built()), "--device", ssh.device, code=4)
    finally:
        ssh.login.write_text(login)
    assert "is full: 0.2 MB are to be sent, 0.0 MB are free in" in line or "are free in" in line
    assert not ssh.cache.exists()


def test_reasons_and_what_to_do(ssh, bundle_of, built, capsys, monkeypatch):
    bundle = bundle_of(built())
    config = ssh.folder / "ssh_config"
    for device, words in [
        ("ssh:127.0.0.1:9", "Connection refused; start the ssh server there"),
        ("ssh:no-such-board.invalid", "check the name, or use its IP address"),
    ]:
        assert words in refused(capsys, "profile", bundle, "--device", device, code=4)
    other = ssh.folder / "other_config"
    other.write_text(config.read_text().replace(f"{ssh.folder}/user", f"{ssh.folder}/host"))
    monkeypatch.setenv("HASHPRESS_SSH", f"ssh -F {other}")
    assert "copy your key there: ssh-copy-id" in refused(capsys, "profile", bundle, "--device", ssh.device, code=4)
    other.write_text(config.read_text().replace(f"{ssh.folder}/known", "/dev/null"))
    assert "log in once by hand to accept its key" in refused(capsys, "profile", bundle, "--device", ssh.device, code=4)
    monkeypatch.setenv("HASHPRESS_SSH", "no-such-ssh")
    assert "no-such-ssh is not installed" in refused(capsys, "profile", bundle, "--device", ssh.device, code=4)


def test_bundles_that_do_not_fit(ssh, bundle_of, built, capsys, tmp_path):
    for words, options in [
        ("and needs avx4096, which ssh:127.0.0.1", {"needs": ["avx4096"]}),
        ("has no hashnet-run, the program that devices run", {"runner": None}),
    ]:
        bundle = bundle_of(**({"runner": built(), "name": words[:12]} | options))
        assert words in refused(capsys, "profile", bundle, "--device", ssh.device)
    foreign = bytearray(built().read_bytes())
    foreign[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "arm").write_bytes(foreign)
    line = refused(capsys, "profile", bundle_of(tmp_path / "arm", name="arm.bundle"), "--device", ssh.device)
    assert "is for aarch64, ssh:127.0.0.1" in line
    assert "one image at a time" in refused(capsys, "profile", bundle, "--device", ssh.device, "--threads", "2")
    assert not ssh.cache.exists()


@pytest.mark.parametrize("address", ["", "-oProxyCommand=x", "a b", "host:99999", "host:x", "user@", "[::1", "a@b@c"])
def test_addresses_that_are_none(address):
    with pytest.raises(InputError, match=r"is written ssh:\[USER@\]HOST\[:PORT\]"):
        parse_device(f"ssh:{address}")


def test_addresses():
    assert SshTransport.parse("pi@board.local:2222") == SshTransport("board.local", "pi", 2222)
    assert parse_device("ssh:me@[fe80::1%eth0]:22").name == "ssh:me@[fe80::1%eth0]:22"
