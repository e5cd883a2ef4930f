import platform
from pathlib import Path

import numpy as np
import pytest
from hashpress.core import heap
from hashpress.core.heap import give_back, released


def held() -> int:
    """Return the bytes that this process has in memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed in this way")
def test_freed_blocks_between_blocks_in_use_go_back_to_the_system() -> None:
    blocks = [np.ones(12_000) for _ in range(1000)]  # 96 kB each: below what glibc maps by itself
    kept, blocks = blocks[-1], blocks[:-1]
    full = held()
    del blocks
    give_back()
    assert held() < full - 80_000_000
    assert kept.sum() == 12_000


def test_a_c_library_that_cannot_give_back_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hashpress.core.heap._trim", lambda: None)
    assert give_back() is None


def test_loops_release_before_every_step_and_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(heap, "give_back", lambda: done.append("-"))
    for item in released(iter("abc")):
        done += item  # a letter
    assert "".join(done) == "-a-b-c-"
