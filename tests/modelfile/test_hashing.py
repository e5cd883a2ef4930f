"""Hash functions against the reference implementation's own answers."""

import hashlib
import struct

import numpy as np
import pytest
from hashpress.modelfile.decode.hashing import hash_pairs, layer_seed, permutation, random_signs, remainders
from xxhash32_in_plain_python import plain

# xxhash 4.1.0 for Python: xxh32_intdigest(struct.pack("<II", i, j), seed)
GOLDEN = [
    (0, 0, 0, 3736311059),
    (0, 1, 0, 149775153),
    (0, 0, 1, 3658090324),
    (0, 123456, 789, 770886623),
    (0, 4294967295, 4294967295, 3246573273),
    (1, 0, 0, 3521805802),
    (1, 1, 0, 1416521076),
    (1, 0, 1, 753519850),
    (1, 123456, 789, 1499658855),
    (2654435761, 0, 0, 3508489860),
    (2654435761, 123456, 789, 1992193560),
    (4294967295, 0, 1, 1778278720),
    (4294967295, 4294967295, 4294967295, 2685863586),
]


def test_the_plain_version_knows_the_published_vectors() -> None:
    assert plain(b"", 0) == 0x02CC5D05
    assert plain(b"abc", 0) == 0x32D153FF


@pytest.mark.parametrize(("seed", "row", "column", "expected"), GOLDEN)
def test_golden_vectors(seed: int, row: int, column: int, expected: int) -> None:
    assert plain(struct.pack("<II", row, column), seed) == expected
    assert hash_pairs(np.array([row]), np.array([column]), seed).tolist() == [expected]


def test_arrays_broadcast_to_the_hash_of_every_pair() -> None:
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 2**32, (7, 1), dtype=np.uint32), rng.integers(0, 2**32, 11, dtype=np.uint32)
    expected = [[plain(struct.pack("<II", row, column), 99) for column in columns] for row in rows[:, 0]]
    assert hash_pairs(rows, columns, 99).tolist() == expected


def test_remainders_are_those_of_python() -> None:
    values = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    for divisor in (1, 2, 3, 7, 128, 98125, 2**31 - 1):
        assert remainders(values, divisor).tolist() == [int(value) % divisor for value in values]


def test_index_and_sign_hashes_are_uniform_and_independent() -> None:
    rows, columns = np.arange(500)[:, None], np.arange(400)
    buckets = remainders(hash_pairs(rows, columns, 5), 10).astype(np.int64)
    signs = hash_pairs(rows, columns, 5 ^ 0x9E3779B9) >> 31
    table = np.zeros((10, 2))
    np.add.at(table, (buckets.ravel(), signs.ravel().astype(int)), 1)
    expected = 500 * 400 / 20
    assert ((table - expected) ** 2 / expected).sum() < 43.8  # the 0.999 quantile of chi square with 19 degrees


def test_permutations_are_drawn_from_the_seed_alone() -> None:
    order = permutation(1000, 2, 7)
    assert sorted(order.tolist()) == list(range(1000))
    keys = [plain(struct.pack("<II", 2, at), 7) for at in range(1000)]
    assert order.tolist() == sorted(range(1000), key=lambda at: (keys[at], at))
    assert permutation(1000, 3, 7).tolist() != order.tolist()
    assert permutation(1000, 2, 8).tolist() != order.tolist()


def test_signs_and_layer_seeds() -> None:
    signs = random_signs(10_000, 0, 1)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.04
    assert layer_seed(0, "encoder.fc1") != layer_seed(0, "encoder.fc2")
    assert layer_seed(1, "head") == int.from_bytes(bytes.fromhex(_sha("1 head"))[:4], "little")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
