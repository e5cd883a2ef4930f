"""Clocks against work of known length and statistics against closed forms; where lengths matter, time is a number that tests set."""

import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hashpress.profiling import machine
from hashpress.profiling.clock import Timing, measure, measure_pair, median_spread


@pytest.fixture
def busy(monkeypatch):
    """Return work that takes so many milliseconds of a clock that nothing else moves."""
    now = 0

    def work(milliseconds):
        nonlocal now
        now += round(milliseconds * 1e6)

    ours = SimpleNamespace(perf_counter_ns=lambda: now, perf_counter=lambda: now / 1e9)
    monkeypatch.setattr("hashpress.profiling.clock.time", ours)
    work.seconds = ours.perf_counter
    return work


def test_the_summary_is_numpys():
    samples = np.random.default_rng(0).lognormal(size=1001)
    found = Timing.of(samples)
    assert found.min_ms == samples.min()
    assert found.p50_ms == pytest.approx(np.median(samples))
    assert found.p90_ms == pytest.approx(np.quantile(samples, 0.9))
    assert found.p99_ms == pytest.approx(np.quantile(samples, 0.99))
    assert found.runs == 1001


def test_the_interval_of_the_median_covers_it_19_times_of_20():
    generator = np.random.default_rng(1)
    true = math.log(2)  # the median of the unit exponential distribution
    hits = 0
    for _ in range(2000):
        ordered = np.sort(generator.exponential(size=101))
        reach = 0.98 * math.sqrt(101)
        low, high = ordered[math.floor(50.5 - reach)], ordered[math.ceil(50.5 + reach)]
        hits += low <= true <= high
        assert median_spread(ordered) == pytest.approx((high - low) / 2 / np.median(ordered))
    assert hits / 2000 > 0.94


def test_few_samples_say_nothing():
    assert median_spread(np.array([1.0, 2.0, 3.0])) == math.inf
    assert not Timing.of([1.0]).converged


def test_it_measures_wall_time():
    found = measure(lambda: time.sleep(0.002), warmup=1, min_runs=5, seconds=0.3)
    assert found.min_ms >= 2.0
    assert found.min_ms <= found.p50_ms <= found.p90_ms <= found.p99_ms


def test_it_stops_as_soon_as_the_median_is_known(busy):
    lengths = iter(np.random.default_rng(2).uniform(0.8, 1.2, 100_000))
    found = measure(lambda: busy(next(lengths)), warmup=0, min_runs=20, seconds=60, tolerance=0.1)
    assert found.converged
    assert 20 <= found.runs < 100


def test_it_stops_when_time_is_up(busy):
    lengths = iter(np.random.default_rng(2).uniform(0.1, 9.0, 10_000))
    found = measure(lambda: busy(next(lengths)), warmup=0, min_runs=10, seconds=0.4, tolerance=1e-6)
    assert not found.converged
    assert 0.4 <= busy.seconds() < 0.5


def test_min_and_max_runs_hold():
    calls = []
    found = measure(lambda: calls.append(1), warmup=3, min_runs=7, max_runs=7, seconds=0)
    assert (found.runs, len(calls)) == (7, 10)


def test_a_pair_runs_in_turn_and_alternates_who_is_first():
    order = []
    found = measure_pair(lambda: order.append("a"), lambda: order.append("b"), warmup=0, min_runs=4, max_runs=4)
    assert (found.first.runs, found.second.runs) == (4, 4)
    rounds = ["".join(order[i : i + 2]) for i in range(0, 8, 2)]
    assert set(rounds) == {"ab", "ba"}


def test_the_ratio_of_a_pair(busy):
    """A machine that slows down hits both alike: the ratio of every round stays."""
    lengths = iter(np.repeat(np.random.default_rng(3).uniform(1, 9, 100), 2))
    found = measure_pair(
        lambda: busy(2 * next(lengths)), lambda: busy(next(lengths)),
        warmup=1, min_runs=10, seconds=0.1,
    )  # fmt: skip
    assert found.ratio == pytest.approx(2, rel=1e-5)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.first.min_ms == pytest.approx(2 * found.second.min_ms, rel=1e-5)


def test_the_machine_is_described_in_json_values():
    found = machine.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["cores"] >= 1
    assert machine.versions()["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"load": 3.0, "cores": 2}, "load average 3.0 on 2 cores"),
        ({"load": 0.1, "cores": 2, "governor": "powersave"}, "governor is 'powersave'"),
        ({"load": 0.1, "cores": 2, "mhz": 800, "max_mhz": 3000}, "800 of 3000 MHz"),
    ],
)
def test_a_noisy_machine_is_flagged(about, reason):
    (found,) = machine.noise(about)
    assert reason in found


def test_a_quiet_machine_is_not():
    assert machine.noise({"load": 0.4, "cores": 2, "governor": "performance", "mhz": 2900, "max_mhz": 3000}) == []
    assert machine.noise({"load": None, "cores": None, "governor": None, "mhz": None}) == []
