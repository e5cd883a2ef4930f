"""Devices of the tests' own: an ssh server, an adb device, and a program that stands for hashnet-run on them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from adb_device import AdbDevice
from hashpress.targets.table import host_machine

HERE = Path(__file__).parent
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CROSS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    "armv7l": ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
}


def needs_program(name: str, package: str):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}: apt-get install {package}")


def cross_compiler(machine: str) -> list[str]:
    """The compiler of the distribution: zig builds a libc first, which takes minutes."""
    name, package = CROSS[machine]
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return [name, "-static", "-s"]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Compile the program that stands for hashnet-run: ``built(machine, nap)`` returns its path."""
    folder, done = tmp_path_factory.mktemp("runner"), {}

    def build(machine: str = host_machine(), nap: int = 0) -> Path:
        if (machine, nap) not in done:
            out = folder / f"{machine}-{nap}"
            compiler = ["gcc"]
            if machine != host_machine():
                compiler = cross_compiler(machine)
            flags = ["-O1", "-DPIXELS=64", "-DCODE=2", f"-DNAP={nap}"]
            subprocess.run([*compiler, *flags, "-o", str(out), str(HERE / "runner.c")], check=True, capture_output=True)
            done[machine, nap] = out
        return done[machine, nap]

    return build


@pytest.fixture
def bundle_of(model_file, tmp_path):
    """Write a bundle with a program that stands for hashnet-run."""

    def make(
        runner: Path | None, needs=(), machine: str = host_machine(), name: str = "a name with spaces.bundle"
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "lib.so").write_bytes(b"for apps, which are not here")
        (folder / "model.safetensors").write_bytes(model_file.read_bytes())
        (folder / "golden.npz").write_bytes(b"golden")
        if runner is not None:
            shutil.copy(runner, folder / "hashnet-run")
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in folder.iterdir()
        }
        manifest = {
            "format": 2,
            "target": {"name": "board", "machine": machine, "needs": list(needs)},
            "encoder": "lenet300",
            "bits": 16,
            "input": {"shape": [1, 8, 8], "mean": [0.3], "std": [0.4]},
            "memory": {"activations": 640, "weights": 1000, "packed": 2000},
            "steps": [{"name": "one"}, {"name": "two"}],
            "tools": {},
            "files": files,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


def codes_of(pixels: np.ndarray) -> np.ndarray:
    """What the program that stands for hashnet-run computes."""
    sums = pixels.reshape(len(pixels), -1, 2).sum(axis=1, dtype=np.int64)
    return (sums % 256).astype(np.uint8)


class SshServer:
    """An sshd of the tests' own, with keys of its own; ``home`` is the home of who logs in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home of the board"
        self.home.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        shutil.copy(folder / "user.pub", folder / "authorized")
        self.login = folder / "login"
        self.login.write_text(
            f'#!/bin/sh\nunset XDG_CACHE_HOME\nHOME="{self.home}" TMPDIR=/proc/none exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        self.login.chmod(0o755)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f'SetEnv HOME="{self.home}"\n'  # whose shell has nothing to read first
            f"ForceCommand {self.login}\nLogLevel ERROR\n"
        )
        (folder / "ssh_config").write_text(
            f"Host *\nIdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        self.device = f"ssh:127.0.0.1:{self.port}"
        self.cache = self.home / ".cache" / "hashpress"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory):
    if SSHD is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    if shutil.which("ssh") is None:
        pytest.skip("needs ssh: apt-get install openssh-client")
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    yield server
    server.close()


@pytest.fixture
def ssh(ssh_server, monkeypatch):
    monkeypatch.setenv("HASHPRESS_SSH", f"ssh -F {ssh_server.folder}/ssh_config")
    shutil.rmtree(ssh_server.home)
    ssh_server.home.mkdir()
    return ssh_server


@pytest.fixture(scope="module")
def adb_server():
    """An adb server of the tests' own; yields its port."""
    if shutil.which("adb") is None:
        pytest.skip("needs adb: apt-get install adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"ANDROID_ADB_SERVER_PORT": port}
    subprocess.run(["adb", "start-server"], env=environment, capture_output=True, check=True, timeout=60)
    yield port
    subprocess.run(["adb", "kill-server"], env=environment, capture_output=True, check=False, timeout=60)


@pytest.fixture
def adb(adb_server, monkeypatch, tmp_path):
    """Plug in devices: ``adb(root, ...)`` returns one that adb sees."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", adb_server)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    plugged = []

    def plug(name: str = "data", **settings) -> AdbDevice:
        (tmp_path / name).mkdir()
        device = AdbDevice(tmp_path / name, **settings)
        plugged.append(device)
        subprocess.run(["adb", "connect", device.serial], capture_output=True, check=False, timeout=30)
        return device

    yield plug
    for device in plugged:
        subprocess.run(["adb", "disconnect", device.serial], capture_output=True, check=False, timeout=30)
        device.close()
