"""The memory planner against brute force: no overlap, never below what is alive, the optimum where there is room for it."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hashpress.targets.codegen.memory import Buffer, peak_live_bytes, plan_memory
from hypothesis import given
from hypothesis import strategies as st

SPANS = st.tuples(st.integers(0, 6), st.integers(0, 4))
BUFFERS = st.lists(st.tuples(st.integers(1, 40), SPANS), max_size=5).map(
    lambda rows: {f"v{k}": Buffer(size, first, first + more) for k, (size, (first, more)) in enumerate(rows)}
)


def overlapping(buffers, offsets) -> list[tuple[str, str]]:
    """Pairs that share a byte in a step in which both are alive, by marking every byte of every step."""
    wrong = []
    for one, two in combinations(buffers, 2):
        cells = [
            {
                (step, byte)
                for step in range(buffers[name].first_use, buffers[name].last_use + 1)
                for byte in range(offsets[name], offsets[name] + buffers[name].size_bytes)
            }
            for name in (one, two)
        ]
        if cells[0] & cells[1]:
            wrong.append((one, two))
    return wrong


def smallest(buffers, align: int) -> int:
    """The smallest workspace there is: in some order, every buffer lies as low as those before it allow."""
    best = sum(-(-buffer.size_bytes // align) * align for buffer in buffers.values())
    for order in permutations(buffers):
        offsets: dict[str, int] = {}
        for name in order:
            place = 0
            while overlapping({k: buffers[k] for k in (*offsets, name)}, offsets | {name: place}):
                place += align
            offsets[name] = place
        best = min(best, max((offsets[name] + buffers[name].size_bytes for name in buffers), default=0))
    return best


@pytest.mark.parametrize("align", [1, 8])
@given(buffers=BUFFERS)
def test_live_buffers_never_overlap(align, buffers):
    plan = plan_memory(buffers, align)
    assert plan.offsets.keys() == buffers.keys()
    assert all(offset % align == 0 for offset in plan.offsets.values())
    assert overlapping(buffers, plan.offsets) == []
    ends = [plan.offsets[name] + buffer.size_bytes for name, buffer in buffers.items()]
    assert plan.size_bytes == max(ends, default=0) >= peak_live_bytes(buffers)


SMALL = st.lists(st.tuples(st.integers(1, 5), st.tuples(st.integers(0, 3), st.integers(0, 2))), max_size=4).map(
    lambda rows: {f"v{k}": Buffer(size, first, first + more) for k, (size, (first, more)) in enumerate(rows)}
)


@given(buffers=SMALL)
def test_small_cases_against_brute_force(buffers):
    best = smallest(buffers, 1)
    assert peak_live_bytes(buffers) <= best <= plan_memory(buffers, 1).size_bytes <= 2 * best


def test_a_chain_needs_the_two_largest_neighbours():
    sizes = (64, 256, 128, 192, 64)
    chain = {f"v{k}": Buffer(size, k, k + 1) for k, size in enumerate(sizes)}
    assert plan_memory(chain, 64).size_bytes == peak_live_bytes(chain) == smallest(chain, 64) == 384


def test_a_shortcut_keeps_its_place():
    buffers = {"short": Buffer(100, 0, 3), "a": Buffer(60, 1, 2), "b": Buffer(60, 2, 3), "later": Buffer(100, 4, 5)}
    plan = plan_memory(buffers, 1)
    assert plan.size_bytes == smallest(buffers, 1) == 220
    assert plan.offsets["later"] == 0


def test_nothing_needs_nothing():
    assert plan_memory({}, 64).size_bytes == 0
