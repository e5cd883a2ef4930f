"""Coded streams against constriction's entropy, closed forms, a decoder in plain Python, and golden bytes."""

from __future__ import annotations

import hashlib
import math
import tracemalloc

import numpy as np
import pytest
from hashpress.core.errors import ModelFileError
from hashpress.modelfile.coding import adaptive, alphabet, ans, context, floats, integers, tables
from hashpress.modelfile.coding.bits import BitWriter, ByteReader, signed, varint
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def entropy_bits(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(float)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def plain_decoder(payload: bytes, tables_of: list[np.ndarray]) -> list[int]:
    """A second decoder as C would have it: 64-bit state, 32-bit words, one table of 24-bit frequencies a symbol."""
    words = [int.from_bytes(payload[i : i + 4], "little") for i in range(0, len(payload), 4)]
    state = words.pop()
    if words:
        state = state << 32 | words.pop()
    out = []
    for frequencies in tables_of:
        slot = state & 0xFFFFFF
        start = symbol = 0
        while slot >= start + int(frequencies[symbol]):
            start += int(frequencies[symbol])
            symbol += 1
        state = (state >> 24) * int(frequencies[symbol]) + slot - start
        if state < 1 << 32 and words:
            state = state << 32 | words.pop()
        out.append(symbol)
    assert state == 0
    assert not words
    return out


def skewed(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.6, shape) - 1, 9)


def patchy(shape: tuple[int, ...] = (64, 32, 3, 3), seed: int = 0) -> np.ndarray:
    """Pruned weights whose density differs between input channels."""
    rng = np.random.default_rng(seed)
    chance = rng.random((1, shape[1], 1, 1)) ** 2 * 0.6
    return (rng.random(shape) < chance) * rng.integers(1, 9, shape)


CASES = {
    "constant": np.full((3, 5), -7),
    "empty": np.zeros((0, 4), dtype=np.int64),
    "one": np.array(12),
    "packed": np.random.default_rng(0).integers(0, 1 << 20, 500),
    "packed in blocks": np.random.default_rng(0).integers(0, 1 << 20, 70_001),
    "wide": np.array([-(2**62) + 1, 2**62 - 1, 0]),
    "order0": skewed((50, 60)),
    "gaps": skewed((50, 60)) * 1000 - 3000,
    "patchy": patchy(),
    "dense layer": (np.random.default_rng(1).random((60, 200)) < np.linspace(0, 0.5, 200)) * 3,
    "one value": (np.random.default_rng(1).random((60, 200)) < np.linspace(0, 0.5, 200)).astype(np.int64),
}


@pytest.mark.parametrize("name", CASES)
def test_integers_come_back(name: str) -> None:
    values = CASES[name]
    coded = integers.encode(values)
    back = integers.decode(coded.payload, values.shape)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, values)
    assert 0 < coded.table_bytes <= len(coded.payload)
    assert integers.encode(values) == coded


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(max_dims=4, max_side=12), elements=st.integers(-300, 300)))
def test_any_integers_come_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(integers.decode(integers.encode(values).payload, values.shape), values)


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(width=32) | st.just(0.0)))
def test_any_floats_come_back_bit_for_bit(values: np.ndarray) -> None:
    back = floats.decode(floats.encode(values).payload, values.shape)
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


def test_forms_of_floats() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(40, 50)).astype(np.float32)
    assert floats.encode(dense).payload[0] == floats.PLANES
    assert len(floats.encode(dense).payload) < 0.87 * dense.nbytes  # sign and exponent of a normal: below 5 of 9 bits
    assert floats.encode(dense.astype(np.float16).astype(np.float32)).payload[0] == floats.HALF
    sparse = np.where(rng.random(dense.shape) < 0.1, dense, np.float32(0))
    payload = floats.encode(sparse).payload
    assert payload[0] == floats.SPARSE
    floor = np.count_nonzero(sparse) * 28 / 8 + entropy_bits(sparse != 0) / 8
    assert len(payload) < 1.1 * floor


def test_floats_within_a_length_are_coded_alike_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(40, 50)).astype(np.float32)
    sparse = np.where(rng.random(dense.shape) < 0.1, dense, np.float32(0))
    for values in (dense, sparse, dense.astype(np.float16).astype(np.float32), np.zeros(0, np.float32)):
        coded = floats.encode(values)
        assert floats.encode_within(values, len(coded.payload)) == coded
        assert floats.encode_within(values, len(coded.payload) - 1) is None


def test_floats_that_stay_as_they_are_take_no_second_copy() -> None:
    values = np.random.default_rng(0).normal(size=1 << 21).astype(np.float32)
    tracemalloc.start()
    assert floats.encode_within(values, 0.75 * values.nbytes) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * values.nbytes


def test_halves_on_a_grid_take_the_bits_of_their_steps() -> None:
    steps = np.rint(np.random.default_rng(0).normal(size=(40, 50)) * 8)
    for power in (-24, -3, 10):
        values = np.ldexp(steps, power).astype(np.float32) + np.float32(0)  # no minus zero
        coded = floats.encode(values)
        assert coded.payload[0] == floats.GRID
        assert len(coded.payload) - coded.table_bytes < 1.02 * entropy_bits(steps) / 8 + 8
        assert floats.decode(coded.payload, values.shape).tobytes() == values.tobytes()
    for spoiler in (-0.0, 1000.1, np.inf):
        values.flat[3] = np.float16(spoiler)
        coded = floats.encode(values)
        assert coded.payload[0] == floats.HALF
        assert floats.decode(coded.payload, values.shape).tobytes() == values.tobytes()
    payload = floats.encode(np.ldexp(steps, -3).astype(np.float32) + np.float32(0)).payload
    with pytest.raises(ModelFileError, match="steps outside the range of binary16"):
        floats.decode(bytes([payload[0], 41]) + payload[2:], steps.shape)


def test_order0_is_at_the_entropy() -> None:
    values = skewed((400, 500)).reshape(-1)  # one axis: no context
    coded = integers.encode(values)
    assert coded.payload[0] == integers.ORDER0
    floor = entropy_bits(values) / 8
    assert floor < len(coded.payload) < 1.002 * floor + 40


def test_contexts_beat_order0_where_zeros_cluster_and_are_not_chosen_where_not() -> None:
    values = patchy((64, 64, 3, 3))
    coded = integers.encode(values)
    assert coded.payload[0] == integers.ADAPTIVE
    assert len(coded.payload) < 0.95 * entropy_bits(values) / 8
    even = skewed((64, 64, 3, 3))
    assert integers.encode(even).payload[0] == integers.ORDER0


def test_constriction_reproduces_integer_frequencies() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 17, 256):
        counts = rng.integers(1, 1000, size)
        frequencies = tables.normalise(counts)
        symbols = rng.choice(size, 500, p=frequencies / frequencies.sum())
        encoder = ans.AnsEncoder()
        encoder.push(symbols, ans.model(frequencies, tables.PRECISION))
        scaled = frequencies << (24 - tables.PRECISION)
        assert plain_decoder(encoder.to_bytes(), [scaled] * 500) == symbols.tolist()


def test_flags_decode_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    chances = context.SQUASH[rng.integers(0, 64, 700)]
    flags = (rng.random(700) < chances / 2**14).astype(np.int64)
    encoder = ans.AnsEncoder()
    encoder.push_flags(flags, chances, 14)
    ones = chances << 10
    pairs = list(np.stack([(1 << 24) - ones, ones], axis=1))
    assert plain_decoder(encoder.to_bytes(), pairs) == flags.tolist()


def test_frequencies_are_a_distribution() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 5, 100, tables.MAX_SYMBOLS):
        counts = rng.geometric(0.01, size) ** 2
        payload, frequencies = tables.encode(counts)
        assert frequencies.sum() == 1 << tables.PRECISION
        assert frequencies.min() >= 1
        np.testing.assert_array_equal(tables.decode(ByteReader(payload), size), frequencies)


def test_fixed_point_tables_follow_their_formulas() -> None:
    curve = [max(64, round(2**14 / (1 + 2 ** (-(i - 32) / 4)))) for i in range(64)]
    np.testing.assert_allclose(context.SQUASH, curve, atol=1)
    values = np.array([1, 2, 3, 5, 100, 65520, 2**30])
    np.testing.assert_allclose(context.logarithm(values), 16 * np.log2(values), atol=1.0)
    chances = np.array([0.01, 0.3, 0.5, 0.9])
    wanted = 16 * np.log2(chances / (1 - chances))
    np.testing.assert_allclose(context.odds((chances * 65536).astype(np.int64), 1), wanted, atol=1.6)


def test_features_see_only_what_was_decoded() -> None:
    """The odds of a part must not change when later weights do."""
    flags = (patchy((8, 6, 3, 3)) != 0).astype(np.int64).reshape(8, 54)
    before = adaptive._features(flags, 9, 18, 20000)
    flags[5, 20:] ^= 1
    flags[6:] ^= 1
    after = adaptive._features(flags, 9, 18, 20000)
    seen = 5 * 54 + 36  # row 5: the parts from column 0 and 18 on know nothing of the change
    np.testing.assert_array_equal(before[:seen], after[:seen])
    assert (before[seen:] != after[seen:]).any()


def test_bits_and_varints() -> None:
    for value in (0, 1, 127, 128, 2**40, 2**62):
        assert ByteReader(varint(value)).varint() == value
        assert ByteReader(signed(-value)).signed() == -value
    writer = BitWriter()
    for value in (1, 2, 3, 70000):
        writer.write_gamma(value)
    reader = ByteReader(writer.to_bytes())
    assert [reader.gamma() for _ in range(4)] == [1, 2, 3, 70000]


def test_golden_bytes_of_format_1() -> None:
    """Files written today must be readable for good: these bytes never change."""
    row, column = np.indices((24, 40))
    small = np.where((row * 7919 + column * 104729) % 97 < column % 40, (row + column) % 3 + 1, 0)
    golden = {
        "order0": (
            "020800794c6d00cc317f97dfc8031e013b506e021feef76721949c248686b097a435f5ad62eea3dd74fcf77ca599049288ad"
            "827a678560ca96508f9449536dde3b0f90d7a6366b1d7f0dcdb9884166e9960fe7958e2e534f1c966300b52562e612a4fc5b"
            "83df845303269205c1a68be8a656bcb30c8a09116022c6bae834ef71262ad4000000"
        ),
        "adaptive": (
            "03cd69ce0b97018e0200280602f87600d8f0c31b76fbbb5798ddc324234416c6286a06ffc988c004c76d91a0649b9150ae10"
            "392d294e8fd5d5cecbe6d0daa7b0f8e9d11c0826d91a5a72ed7516a4558d78ca1f7f0719c3ec8ad3b230378d2b9b6dda319c"
            "146a8a840c0a138ded55c310ac56ce87637a3f8c6833f4bb080000"
        ),
        "constant": "000d",
    }
    assert integers.encode(small.reshape(-1)).payload.hex() == golden["order0"]
    assert integers.encode(small).payload.hex() == golden["adaptive"]
    assert integers.encode(np.full((3, 5), -7)).payload.hex() == golden["constant"]
    np.testing.assert_array_equal(integers.decode(bytes.fromhex(golden["adaptive"]), small.shape), small)
    kernel = integers.encode(np.tile(small, (2, 8)).reshape(48, 80, 2, 2)).payload
    assert kernel[0] == integers.ADAPTIVE
    assert hashlib.sha256(kernel).hexdigest() == "27033dfe310f51475bb2d4fef46efc26310931aca01047e583daf3654263bed6"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([(), (4,), (3, 4), (2, 3, 2, 2), (0, 3)]))
def test_garbage_is_refused_in_our_own_words(payload: bytes, shape: tuple[int, ...]) -> None:
    for decode in (integers.decode, floats.decode):
        try:
            back = decode(payload, shape)
        except ModelFileError:
            continue
        assert back.shape == shape


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["order0", "packed", "one value"]))
def test_changed_bytes_never_crash(place: int, byte: int, name: str) -> None:
    values = CASES[name]
    payload = bytearray(integers.encode(values).payload)
    payload[place % min(len(payload), 40)] = byte
    try:
        back = integers.decode(bytes(payload), values.shape)
    except ModelFileError:
        return
    assert back.shape == values.shape


def test_alphabet_counts_like_unique() -> None:
    values = np.array([5, -3, 5, 900, 5, -3])
    coded = alphabet.encode(values)
    assert coded is not None
    wide = alphabet.encode(np.array([0, 10**9]))
    assert wide is not None
    symbols, _ = alphabet.decode(ByteReader(coded.head))
    assert symbols.tolist() == [-3, 5, 900]
    assert symbols[coded.ranks].tolist() == values.tolist()
    assert alphabet.encode(np.arange(tables.MAX_SYMBOLS + 1)) is None
    assert math.isclose(tables.cost(np.array([1, 1]), np.array([1 << 13, 1 << 13])), 2.0)
