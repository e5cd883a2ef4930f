"""A stand-in for an Android device: it speaks adb's transport on a port of this machine and runs commands here.

After AOSP packages/modules/adb: protocol.txt, SYNC.TXT, shell_protocol.h. What a program would find on a phone is written
over its command line: ``rewrite`` maps texts of commands to others.
"""

from __future__ import annotations

import queue
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (int.from_bytes(name, "little") for name in
                                      (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE"))  # fmt: skip
VERSION, MOST = 0x01000001, 64 * 1024
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class AdbDevice:
    """The device; ``root`` is the folder that stands for /data/local/tmp."""

    def __init__(
        self, root: Path, *, authorized: bool = True, rewrite: dict[str, str] | None = None, space: int = 10**9
    ):
        self.rewrite = {"/data/local/tmp": str(root), **(rewrite or {})}
        self.authorized, self.space = authorized, space
        self.received: list[str] = []  # paths that were pushed
        self.commands: list[str] = []
        self.links: list[Link] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            link = Link(self, connection)
            self.links.append(link)
            threading.Thread(target=link.serve, daemon=True).start()

    def here(self, text: str) -> str:
        for before, after in self.rewrite.items():
            text = text.replace(before, after)
        return text

    def unplug(self) -> None:
        for link in self.links:
            link.close()

    def close(self) -> None:
        self.server.close()
        self.unplug()


class Link:
    """One connection of an adb server."""

    def __init__(self, device: AdbDevice, connection: socket.socket) -> None:
        self.device, self.connection = device, connection
        self.lock = threading.Lock()
        self.streams: dict[int, Shell | Sync] = {}

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        head = struct.pack("<6I", command, first, second, len(data), sum(data), command ^ 0xFFFFFFFF)
        with self.lock:
            self.connection.sendall(head + data)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def serve(self) -> None:
        try:
            while True:
                command, first, second, size, _, _ = struct.unpack("<6I", self.read(24))
                self.answer(command, first, second, self.read(size))
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    def answer(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN and self.device.authorized:
            self.send(
                CNXN, VERSION, MOST, b"device::ro.product.name=standin;ro.product.model=Stand-in;features=shell_v2"
            )
        elif command in (CNXN, AUTH):
            self.send(AUTH, 1, 0, bytes(range(20)))
        elif command == OPEN:
            service = data.rstrip(b"\0").decode()
            number = first  # the same number on both sides
            kind = Sync if service.startswith("sync:") else Shell
            self.send(OKAY, number, number)
            self.streams[number] = kind(self, number, service)
        elif command == WRTE and second in self.streams:
            self.send(OKAY, second, first)
            self.streams[second].take(data)
        elif command == OKAY and second in self.streams:
            self.streams[second].ready.release()
        elif command == CLSE and second in self.streams:
            self.streams.pop(second).close()

    def close(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        for stream in list(self.streams.values()):
            stream.close()


class Stream:
    def __init__(self, link: Link, number: int) -> None:
        self.link, self.number = link, number
        self.ready = threading.Semaphore(1)  # one write at a time, until the other side said that it is there
        self.waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._drain, daemon=True).start()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MOST):
            self.waiting.put(data[start : start + MOST])

    def end(self) -> None:
        self.waiting.put(None)

    def _drain(self) -> None:
        with suppress(OSError):
            while (data := self.waiting.get()) is not None and self.ready.acquire(timeout=20):
                self.link.send(WRTE, self.number, self.number, data)
            self.link.send(CLSE, self.number, self.number)


class Shell(Stream):
    """``shell,v2``: a command with separate streams and an exit code."""

    def __init__(self, link: Link, number: int, service: str) -> None:
        super().__init__(link, number)
        self.held = b""
        command = service.partition(":")[2]
        link.device.commands.append(command)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(["sh", "-c", link.device.here(command)], stdin=pipe, stdout=pipe, stderr=pipe)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        pumps = [threading.Thread(target=self.pump, args=pair, daemon=True)
                 for pair in ((STDOUT, self.process.stdout), (STDERR, self.process.stderr))]  # fmt: skip
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        code = self.process.wait()
        self.write(struct.pack("<BIB", EXIT, 1, code & 255))
        self.end()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(OSError):
                stream.close()

    def pump(self, kind: int, source) -> None:
        try:
            while data := source.read1(4096):
                self.write(struct.pack("<BI", kind, len(data)) + data)
        except (OSError, ValueError):
            pass

    def take(self, data: bytes) -> None:
        self.held += data
        while len(self.held) >= 5:
            kind, size = struct.unpack("<BI", self.held[:5])
            if len(self.held) < 5 + size:
                return
            body, self.held = self.held[5 : 5 + size], self.held[5 + size :]
            if kind == STDIN:
                with suppress(OSError, ValueError):
                    self.process.stdin.write(body)
                    self.process.stdin.flush()
            elif kind == CLOSE_STDIN:
                self.close()

    def close(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()


class Sync(Stream):
    """``sync:``: files there and back."""

    def __init__(self, link: Link, number: int, service: str) -> None:
        super().__init__(link, number)
        self.held, self.file, self.failed = b"", None, False

    def take(self, data: bytes) -> None:
        self.held += data
        while len(self.held) >= 8:
            name, size = self.held[:4], int.from_bytes(self.held[4:8], "little")
            if name in (b"DONE", b"QUIT"):
                body, self.held = b"", self.held[8:]
            elif len(self.held) < 8 + size:
                return
            else:
                body, self.held = self.held[8 : 8 + size], self.held[8 + size :]
            getattr(self, name.decode().lower())(body)

    def stat(self, body: bytes) -> None:
        path = Path(self.link.device.here(body.decode()))
        found = path.stat() if path.exists() else None
        numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
        self.write(b"STAT" + struct.pack("<3I", *numbers))

    def send(self, body: bytes) -> None:
        name = body.decode().rpartition(",")[0]
        self.link.device.received.append(name)
        self.file, self.failed = Path(self.link.device.here(name)).open("wb"), False  # noqa: SIM115

    def data(self, body: bytes) -> None:
        self.link.device.space -= len(body)
        if self.link.device.space >= 0:
            self.file.write(body)
        elif not self.failed:
            self.failed = True
            text = b"write failed: No space left on device"
            self.write(b"FAIL" + struct.pack("<I", len(text)) + text)

    def done(self, body: bytes) -> None:
        self.file.close()
        if not self.failed:
            self.write(b"OKAY" + bytes(4))

    def recv(self, body: bytes) -> None:
        path = Path(self.link.device.here(body.decode()))
        if not path.is_file():
            text = b"No such file or directory"
            self.write(b"FAIL" + struct.pack("<I", len(text)) + text)
            return
        content = path.read_bytes()
        for start in range(0, len(content), MOST):
            part = content[start : start + MOST]
            self.write(b"DATA" + struct.pack("<I", len(part)) + part)
        self.write(b"DONE" + bytes(4))

    def quit(self, body: bytes) -> None:
        self.end()

    def close(self) -> None:
        if self.file:
            self.file.close()
