"""The reader in C: the golden vectors, every frozen file as numpy decodes it, and damaged files under sanitizers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from hashpress.core.errors import ModelFileError
from hashpress.modelfile.reader import read_dense
from native_reader import SANITIZED, Probe, built, verdicts

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "docs" / "vectors"
FILES = sorted([*VECTORS.glob("*.safetensors"), *(ROOT / "tests" / "frozen" / "models").glob("*.safetensors")])
STREAMS = json.loads((VECTORS / "streams.json").read_text(encoding="utf-8"))
SMALL = [path for path in FILES if path.stat().st_size < 12_000]


@pytest.fixture(scope="module")
def probe(tmp_path_factory) -> Probe:
    return Probe(built(tmp_path_factory.mktemp("probe") / "probe.so", "probe", "-shared"))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("feed") / "feed", "feed", *SANITIZED)


def test_streams_decode_to_the_golden_values(probe):
    for vector in STREAMS["decoded"]:
        found = probe.stream(vector["stream"], vector["shape"], bytes.fromhex(vector["bytes"]))
        assert isinstance(found, np.ndarray), vector
        if "values" in vector:
            base = 10 if vector["stream"] == "integers" else 16
            assert found.tolist() == [int(str(value), base) for value in np.ravel(vector["values"])]
        else:
            assert hashlib.sha256(found.tobytes()).hexdigest() == vector["sha256"]


def test_bad_streams_are_refused(probe):
    for vector in STREAMS["refused"]:
        assert probe.stream(vector["stream"], vector["shape"], bytes.fromhex(vector["bytes"])) == 3  # HASHNET_BAD_FILE


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_decodes_to_the_same_bits_as_by_numpy(probe, path):
    content = path.read_bytes()
    for name, wanted in read_dense(path).items():
        if wanted.dtype == np.float32:
            found = probe.weight(content, name, wanted.size)
            assert isinstance(found, np.ndarray), found
            assert found.tobytes() == wanted.tobytes(), name


def test_sound_files_are_accepted_under_sanitizers(sanitized):
    assert {code for code, _ in verdicts(sanitized, [path.read_bytes() for path in SMALL])} == {0}


def test_two_thousand_damaged_files_are_read_without_a_finding(sanitized, tmp_path):
    """Both readers refuse the same files; the C reader may also refuse text that is not ASCII, which nobody writes."""
    files = list(damaged([path.read_bytes() for path in SMALL], 2000, seed=1))
    found = verdicts(sanitized, files)
    assert len(found) == 2000
    assert {code for code, _ in found} == {0, 3}
    for number in range(0, 2000, 8):  # numpy takes some milliseconds a file
        (tmp_path / "file").write_bytes(files[number])
        code, reason = found[number]
        assert (code == 0) == accepted(tmp_path / "file"), (number, reason)


def accepted(path: Path) -> bool:
    try:
        read_dense(path)
    except ModelFileError:
        return False
    return True
