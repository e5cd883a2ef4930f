"""One job on a device: a lock, a folder of its own, files that are sent once, programs; nothing stays when it ends.

A script on the device (the keeper) holds the lock for as long as its standard input is open. It ends the job's programs
and removes its folder when hashpress closes the connection, dies, or says nothing for a minute. What a job that went well
has sent is kept by its hash, for two weeks after its last use, so that it is not sent again.
"""

from __future__ import annotations

import getpass
import platform
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.errors import DeviceError
from .connection import Finished, Transport, last_line, quote, shell

HEARTBEAT_SECONDS = 10.0
QUIET_SECONDS = 30  # the keeper looks this often, and gives up at the second look without a heartbeat
START_SECONDS = 60.0
BUSY_SECONDS = 300.0  # how long a job waits for another one's end
SLOW_LINK = 200_000  # bytes a second; a copy that takes longer than this is given up

_KEEPER = r"""
root=; why=
for place in @FOLDERS@; do
  if (umask 077; mkdir -p "$place") 2>/dev/null && [ -O "$place" ] \
     && printf '#!%s\nexit 0\n' "$(command -v sh)" 2>/dev/null > "$place/probe.$$" && chmod 700 "$place/probe.$$" \
     && "$place/probe.$$" 2>/dev/null; then rm -f "$place/probe.$$"; root=$place; break; fi
  rm -f "$place/probe.$$" 2>/dev/null; rmdir "$place" 2>/dev/null; why="$why $place"
done
[ -n "$root" ] || { echo "nowhere$why"; exit 1; }
umask 077
mkdir -p "$root/store"
if command -v flock >/dev/null 2>&1; then
  exec 9>>"$root/lock"
  if ! flock -n 9 || ! [ "$root/lock" -ef "/proc/$$/fd/9" ]; then echo "busy $(cat "$root/owner" 2>/dev/null)"; exit 1; fi
else
  if ! mkdir "$root/lock.d" 2>/dev/null; then
    other=$(cat "$root/lock.d/pid" 2>/dev/null)
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then echo "busy $(cat "$root/owner" 2>/dev/null)"; exit 1; fi
  fi
  mkdir -p "$root/lock.d"; echo $$ > "$root/lock.d/pid"
fi
echo @OWNER@ > "$root/owner"
rm -rf "$root"/job.*
job="$root/job.$$"; keep=
mkdir "$job" "$job/new" || { echo "full $job"; exit 1; }
end() {
  trap '' HUP TERM INT PIPE
  for file in "$job"/pid.*; do [ -e "$file" ] && kill -9 "$(cat "$file")" 2>/dev/null; done
  [ -n "$keep" ] && for file in "$job"/new/*; do [ -e "$file" ] && mv -f "$file" "$root/store/"; done
  rm -rf "$job" "$root/owner"
  [ "$keep" = none ] && rm -rf "$root/store"
  find "$root/store" -type f -mtime +14 -exec rm -f {} + 2>/dev/null
  rmdir "$root/store" 2>/dev/null; [ -e "$root/store" ] || rm -f "$root/lock"
  rm -rf "$root/lock.d"; rmdir "$root" 2>/dev/null
}
( trap 'kill "$nap" 2>/dev/null; exit' TERM
  while :; do
    sleep @QUIET@ & nap=$!; wait "$nap"
    if [ -e "$job/quiet" ]; then end; kill -9 $$; exit; fi
    : > "$job/quiet" || exit
  done ) </dev/null >/dev/null 2>&1 9>&- &
watcher=$!
trap 'end; kill "$watcher" 2>/dev/null' EXIT
trap 'exit 1' HUP TERM INT PIPE
echo "ready $job"
while read -r word; do
  case $word in alive) rm -f "$job/quiet";; keep) keep=1;; clean) keep=none;; bye) break;; esac
done
"""


class Session:
    """A job on a device, open until :meth:`close`; ``job`` is its folder there.

    Raises:
        DeviceError: the device cannot be reached, stays busy, or has no folder where programs may run.
    """

    def __init__(self, transport: Transport, busy_seconds: float = BUSY_SECONDS) -> None:
        self.transport = transport
        self.job = ""
        self._keeper: Any = None
        self._owner = ""
        self._count = 0
        self._closing = threading.Event()
        deadline = time.monotonic() + busy_seconds
        while not self._start():
            if time.monotonic() >= deadline:
                raise DeviceError(
                    f"{transport.name} is busy for longer than {busy_seconds:g} s: {self._owner or 'another job'} runs "
                    "there; try again when it has ended"
                )
            time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(keep=kind is None)

    def script(self, script: str, seconds: float = START_SECONDS) -> Finished:
        """Run a short shell script in the job's folder.

        Raises:
            DeviceError: the connection broke, or the time is over.
        """
        self._check()
        return shell(self.transport, f"cd {quote(self.job)} || exit 70\n{script}", seconds)

    def run(self, program: str, machine: str, seconds: float) -> Finished:
        """Run a program in the job's folder, written as a shell command; ``machine`` is its ELF machine.

        Raises:
            DeviceError: the connection broke, or the time is over; the program is ended there.
        """
        self._count += 1
        mark = f"pid.{self._count}"
        words = f"{self.transport.launcher(machine)} {program}".strip()
        started = f"sh -c {quote(f'echo $$ > {mark}; exec {words}')} </dev/null"
        try:
            done = self.script(f"{started}\ncode=$?; rm -f {mark}; exit $code", seconds)
        except DeviceError:
            self.close(keep=False)  # which ends the program there
            raise
        self._check()
        return done

    def put(self, files: Mapping[str, tuple[Path, str, int]]) -> list[str]:
        """Bring files into the job's folder, given as name: (path, SHA-256, bytes); return the names of those sent.

        Raises:
            DeviceError: no space is left there, or the connection broke.
        """
        hashes = " ".join(digest for _, digest, _ in files.values())
        look = f'cd ../store && for f in {hashes}; do [ -f $f ] && touch $f && echo "$f $(wc -c < $f)"; done; df -k .'
        lines = [line.split() for line in self.script(look).text.splitlines()]
        there = {line[0]: line[1] for line in lines if len(line) == 2 and len(line[0]) == 64}
        missing = {name: what for name, what in files.items() if there.get(what[1]) != str(what[2])}
        free = next((int(words[-3]) * 1024 for words in lines[::-1] if len(words) >= 4 and words[-3].isdigit()), None)
        needed = sum(size for _, _, size in missing.values())
        if free is not None and needed > free:
            raise DeviceError(
                f"{self.transport.name} is full: {needed / 1e6:.1f} MB are to be sent, {free / 1e6:.1f} MB are free in "
                f"{Path(self.job).parent}; remove files there, or set HASHPRESS_DEVICE_FOLDER to a folder on another disk"
            )
        for path, digest, size in missing.values():
            self._check()
            self.transport.send(path, f"{self.job}/new/{digest}", START_SECONDS + size / SLOW_LINK)
        links = [
            f"ln -sf {('new' if name in missing else '../store')}/{digest} {quote(name)} && chmod 700 {quote(name)}"
            f' && [ "$(wc -c < {quote(name)})" -eq {size} ]'
            for name, (_, digest, size) in files.items()
        ]
        done = self.script(" && ".join(links))
        if done.code:
            raise DeviceError(
                f"{self.transport.name}: files did not arrive whole ({last_line(done.err, 'sizes differ')})"
            )
        return list(missing)

    def fetch(self, name: str, seconds: float = START_SECONDS) -> bytes:
        """Return a file of the job's folder.

        Raises:
            DeviceError: there is none, or the connection broke.
        """
        return self.transport.fetch(f"{self.job}/{name}", seconds)

    def close(self, *, keep: bool = True, clean: bool = False) -> None:
        """End the job; ``keep`` what was sent for the next one, or remove all that hashpress ever left (``clean``)."""
        if self._closing.is_set():
            return
        self._closing.set()
        with suppress(OSError, ValueError):
            self._say(("clean\n" if clean else "keep\n" if keep else "") + "bye\n")
        self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._keeper.kill()  # the keeper on the device ends by itself, now that its input is closed
            self._keeper.wait()
        for stream in (self._keeper.stdout, self._keeper.stderr):
            stream.close()

    @property
    def alive(self) -> bool:
        """Whether the connection that holds the lock stands."""
        return self._keeper is not None and self._keeper.poll() is None

    def _check(self) -> None:
        if not self.alive:
            raise DeviceError(f"{self.transport.name}: the connection broke during the job")

    def _say(self, text: str) -> None:
        self._keeper.stdin.write(text.encode())
        self._keeper.stdin.flush()

    def _start(self) -> bool:
        """Start the keeper; False if another job runs there."""
        owner = f"{getpass.getuser()} on {platform.node() or 'another machine'} since {time.strftime('%H:%M:%S')}"
        script = _KEEPER.replace("@FOLDERS@", " ".join(self.transport.folders)).replace("@OWNER@", quote(owner))
        script = script.replace("@QUIET@", str(QUIET_SECONDS))
        pipe = subprocess.PIPE
        try:
            keeper: Any = subprocess.Popen(
                self.transport.command(script), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as fault:
            raise DeviceError(f"{self.transport.name}: the connection cannot be started: {fault.strerror}") from fault
        self._keeper = keeper
        timer = threading.Timer(START_SECONDS, keeper.kill)
        timer.start()
        try:
            assert keeper.stdout is not None  # noqa: S101  # it was asked for
            word, _, rest = keeper.stdout.readline().decode(errors="replace").strip().partition(" ")
        except BaseException:
            self._drop()
            raise
        finally:
            timer.cancel()
        if word == "ready":
            self.job = rest
            threading.Thread(target=self._heartbeat, daemon=True).start()
            return True
        complaint = self._drop()
        if word == "busy":
            self._owner = rest
            return False
        if word == "nowhere":
            raise DeviceError(
                f"{self.transport.name}: no folder there can be written and may run programs (tried {rest}); set "
                "HASHPRESS_DEVICE_FOLDER to one that can"
            )
        if word == "full":
            raise DeviceError(
                f"{self.transport.name}: {rest} cannot be made: {last_line(complaint, 'the disk is full')}"
            )
        raise DeviceError(f"{self.transport.name}: {self.transport.explain(complaint or f'{word} {rest}')}")

    def _drop(self) -> str:
        """End the keeper's connection and return what it complained about."""
        with suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        complaint = str(self._keeper.stderr.read().decode(errors="replace"))
        self._keeper.stdout.close()
        self._keeper.stderr.close()
        return complaint

    def _heartbeat(self) -> None:
        while not self._closing.wait(HEARTBEAT_SECONDS):
            with suppress(OSError, ValueError):
                self._say("alive\n")
