"""Budgets: units, all problems at once, limits of both kinds and directions, reasons, and what CI shows."""

from dataclasses import replace

import pytest
from hashpress.core.errors import BudgetError
from hashpress.profiling.blame import contributions
from hashpress.profiling.budget import Limit, check, load_budget, parse_budget
from hashpress.profiling.ci import github, markdown, text
from hashpress.profiling.report import Figure
from reports import report


def budget(**limits):
    return parse_budget({name.replace("__", "."): value for name, value in limits.items()})


def test_every_unit(tmp_path):
    (tmp_path / "b.toml").write_text(
        'storage.file = "900 kB"\nlatency.p50 = { limit = "12 ms", level = "warn" }\nmemory.rss = "200 MB"\n'
        '[quality]\nmap = 0.9\nmap_drop = "1 %"\n[quality.bit_flips]\nlimit = "0.5 %"\n'
        '[instructions]\ntotal = "3 M"\n'
    )
    assert load_budget(tmp_path / "b.toml").limits == (
        Limit("storage.file", 900_000),
        Limit("latency.p50", 12.0, "warn"),
        Limit("memory.rss", 200_000_000),
        Limit("quality.map", 0.9),
        Limit("quality.map_drop", 0.01),
        Limit("quality.bit_flips", 0.005),
        Limit("instructions.total", 3e6),
    )
    assert budget(storage__library="+5 %").limits == (Limit("storage.library", 0.05, "error", relative=True),)


def test_all_problems_at_once():
    with pytest.raises(BudgetError) as caught:
        parse_budget(
            {
                "storage": {"file": "900 kilobyte", "fil": "1 kB"},
                "latency.p50": 12,
                "memory": {"rss": {"limit": "1 MB", "level": "fatal"}},
                "quality": {"map": {"limit": 0.9, "levle": "warn"}, "map_drop": True},
                "cycles.total": [1],
            }
        )
    message = str(caught.value)
    for part in (
        "storage.file: unknown unit 'kilobyte'",
        "unknown figure 'storage.fil'; did you mean 'storage.file'?",
        "latency.p50: 12 has no unit; write one of us, µs, ms, s",
        "memory.rss: unknown level 'fatal' (there are: error, warn)",
        "quality.map: unknown key 'levle'",
        "quality.map_drop: a limit must be a string with a unit or a number, found True",
        "cycles.total: a limit must be a string with a unit or a number, found [1]",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "x = ", "\xff", "[storage]\n", "limit = '1 kB'", "a = 1\na = 2"])
def test_what_is_no_budget(tmp_path, content):
    (tmp_path / "b.toml").write_text(content, encoding="latin-1")
    with pytest.raises(BudgetError, match=r"b\.toml"):
        load_budget(tmp_path / "b.toml")


def test_a_missing_budget(tmp_path):
    with pytest.raises(BudgetError, match=r"cannot read budget .*No such file"):
        load_budget(tmp_path / "b.toml")


def test_within_budget_is_nothing():
    limits = budget(storage__file="1200 B", latency__p50="1.5 ms", quality__map=0.9)  # exactly at the limit
    assert check(report(), limits) == ()


def test_an_excess_says_by_how_much_and_why():
    (found,) = check(report(), budget(latency__p50="1 ms"))
    assert (found.metric, found.limit, found.level) == ("latency.p50", 1.0, "error")
    assert found.margin == pytest.approx(0.5)
    assert str(found) == "latency.p50: 1.5 ms, budget 1 ms (500 µs over, measured)"
    assert found.why == ("conv2d: 900 µs (60 %)", "dense: 450 µs (30 %)", "max_pool: 150 µs (10 %)")
    assert found.to_json()["unit"] == "ms"


def test_more_is_better_for_quality():
    (found,) = check(report(map_=0.85), budget(quality__map=0.9))
    assert str(found) == "quality.map: 85 %, budget 90 % (5 % below, measured)"
    assert check(report(map_=0.95), budget(quality__map=0.9)) == ()


def test_errors_come_before_warnings():
    limits = budget(storage__file={"limit": "1 kB", "level": "warn"}, latency__p50="1 ms")
    assert [excess.level for excess in check(report(), limits)] == ["error", "warn"]


def test_bytes_are_blamed_on_the_largest_tensors():
    (found,) = check(report(), budget(storage__file="1 kB"))
    assert found.why[0] == "encoder.conv1 (values): 900 B (75 %)"
    assert not any("lib.so" in reason for reason in found.why)
    (found,) = check(report(), budget(storage__bundle="1 kB"))
    assert found.why[0] == "lib.so (library): 5 kB (81 %)"


def test_contributions_add_up():
    now = report()
    for name in ("storage.file", "storage.bundle", "latency.p50"):
        assert sum(contributions(now, name).values()) == pytest.approx(now.figures[name].value)


def test_flips_are_blamed_on_bits():
    (found,) = check(report(), budget(quality__bit_flips="0.5 %"))
    assert found.why[0] == "bit 2 flips for 3 % of the inputs"


def test_relative_limits_compare_with_the_baseline():
    limits = budget(storage__file="+5 %", quality__map="+1 %")
    base = report(file=1200, map_=0.9)
    assert check(report(file=1260, map_=0.892), limits, base) == ()
    found = check(report(file=1300, map_=0.88), limits, base)
    assert [(excess.metric, round(excess.limit, 6)) for excess in found] == [
        ("storage.file", 1260.0),
        ("quality.map", 0.891),
    ]
    assert found[0].why == ("encoder.conv1 (values) grew by 100 B to 1 kB",)


def test_the_drop_follows_from_a_baseline():
    limits = budget(quality__map_drop="1 %")
    (found,) = check(report(map_=0.88), limits, report(map_=0.9))
    assert found.measured.value == pytest.approx(0.02)
    assert check(report(map_=0.895), limits, report(map_=0.9)) == ()


def test_a_figure_that_was_not_measured_never_passes_in_silence():
    limits = budget(quality__map_drop="1 %", instructions__total="3 M", storage__library="+5 %")
    with pytest.raises(BudgetError) as caught:
        check(report(), limits)
    for part in ("no quality.map_drop (add it with: hashpress evaluate", "no instructions.total", "no storage.library"):
        assert part in str(caught.value)
    with pytest.raises(BudgetError, match="give --baseline REPORT"):
        check(report(), budget(storage__file="+5 %"))
    bare = replace(report(), figures={})
    with pytest.raises(BudgetError, match="baseline has no such figure"):
        check(report(), budget(storage__file="+5 %"), bare)


def test_text_for_people():
    now = report()
    assert text(now, ()) == "small.bundle: within budget\n"
    found = check(now, budget(latency__p50="1 ms"))
    assert text(now, found).splitlines()[0] == "error latency.p50: 1.5 ms, budget 1 ms (500 µs over, measured)"
    assert "conv2d" not in text(now, found)
    assert "        conv2d: 900 µs (60 %)" in text(now, found, why=True).splitlines()


def test_markdown_for_pull_requests():
    now, base = report(file=1500), report()
    shown = markdown(now, check(now, budget(storage__file="1 kB")), base)
    assert "| storage.file | 1.5 kB | 1.2 kB | +25.0 % | measured | **error**: 1 kB |" in shown
    tables = [line for line in shown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 1


def test_github_annotations_are_escaped():
    now = report()
    found = (replace(check(now, budget(latency__p50="1 ms"))[0], why=("50 % of\nit", "a:b,c")),)
    (line,) = github(now, found).splitlines()
    assert line.startswith("::error title=over budget%3A latency.p50::small.bundle: latency.p50")
    assert line.endswith("; 50 %25 of%0Ait; a:b,c")
    warning = github(now, check(now, budget(latency__p50={"limit": "1 ms", "level": "warn"})))
    assert warning.startswith("::warning ")


def test_a_zero_baseline():
    zero = replace(report(), figures={"quality.bit_flips": Figure(0.0, "share", "measured")})
    assert "| quality.bit_flips | 1 % | 0 % | new | measured |  |" in markdown(report(), (), zero)
