"""tensorly has a backend for the whole process; the passes neither depend on it nor leave another one behind."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorly as tl
from hashpress.compress.factorize.tensors import algebra
from tensorly import tenalg


@pytest.fixture
def factors():
    random = np.random.default_rng(0)
    return tuple(random.standard_normal((size, 3)) for size in (4, 5, 2))


@pytest.fixture
def backends():
    """Leave tensorly as it was."""
    yield
    tl.set_backend("numpy")
    tenalg.set_backend("core")


def test_what_the_caller_chose_changes_nothing_and_stays(factors, backends):
    wanted = np.einsum("ar,br,cr->abc", *factors)
    before = (
        algebra.cp_to_tensor((None, factors)),
        algebra.khatri_rao(factors),
        algebra.mode_dot(wanted, factors[1].T, 1),
    )
    tl.set_backend("pytorch")
    tenalg.set_backend("einsum")
    after = (
        algebra.cp_to_tensor((None, factors)),
        algebra.khatri_rao(factors),
        algebra.mode_dot(wanted, factors[1].T, 1),
    )
    for one, other in zip(before, after, strict=True):
        assert isinstance(other, np.ndarray)
        np.testing.assert_array_equal(one, other)
    assert (tl.get_backend(), tenalg.get_backend()) == ("pytorch", "einsum")
    with pytest.raises(ValueError, match="not aligned"):
        algebra.mode_dot(wanted, factors[0], 1)
    assert (tl.get_backend(), tenalg.get_backend()) == ("pytorch", "einsum")
    np.testing.assert_allclose(before[0], wanted, atol=1e-14)


def test_threads_keep_the_backend_they_have(factors, backends):
    """One that chose none follows what is chosen for all later on; a choice of one's own is not spread to all others."""
    called, chosen = threading.Event(), threading.Event()
    found = []

    def follower():
        algebra.khatri_rao(factors)
        called.set()
        chosen.wait(10)
        found.append(tl.get_backend())

    def loner():
        tl.set_backend("pytorch", local_threadsafe=True)
        algebra.khatri_rao(factors)
        found.append(tl.get_backend())

    other = threading.Thread(target=loner)
    other.start()
    other.join()
    thread = threading.Thread(target=follower)
    thread.start()
    called.wait(10)
    assert tl.get_backend() == "numpy"
    tl.set_backend("pytorch")
    chosen.set()
    thread.join()
    assert found == ["pytorch", "pytorch"]


@pytest.mark.parametrize("backend", [None, "pytorch"])
def test_tensorly_is_imported_by_the_first_call_alone(backend):
    code = (
        "import sys, hashpress.compress.passes\n"
        "assert 'tensorly' not in sys.modules\n"
        "from hashpress.compress.factorize.tensors import algebra\n"
        "import numpy as np\n"
        "assert isinstance(algebra.unfold(np.zeros((2, 3, 4)), 1), np.ndarray)\n"
        "import tensorly\n"
        f"assert tensorly.get_backend() == {backend or 'numpy'!r}\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("TENSORLY")}
    env |= {"TENSORLY_BACKEND": backend} if backend else {}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
