"""Budgets: units, all problems at once, limits of both kinds and directions, reasons, and what CI shows."""

import json
from dataclasses import replace
from statistics import median
from xml.etree import ElementTree as ET

import pytest
from hashpress.core.errors import BudgetError
from hashpress.profiling.blame import contributions
from hashpress.profiling.budget import check, doubts, load_budget, parse_budget
from hashpress.profiling.ci import github, gitlab, junit, markdown, text
from hashpress.profiling.limits import Limit
from hashpress.profiling.report import Figure
from reports import report

DROP = {
    "quality.map": 0.492,
    "quality.map_drop": 0.008,
    "quality.map_asymmetric": 0.498,
    "quality.map_drop_asymmetric": 0.002,
}


def budget(**limits):
    return parse_budget({name.replace("__", "."): value for name, value in limits.items()})


def test_every_unit(tmp_path):
    (tmp_path / "b.toml").write_text(
        'storage.file = "900 kB"\nlatency.p50 = { limit = "12 ms", level = "warn" }\nmemory.rss = "200 MB"\n'
        '[quality]\nmap = 0.9\nmap_drop = "1 %"\nmap_drop_asymmetric = "1.5 points"\n[quality.bit_flips]\nlimit = "0.5 %"\n'
        '[instructions]\ntotal = "3 M"\n'
    )
    assert load_budget(tmp_path / "b.toml").limits == (
        Limit("storage.file", 900_000),
        Limit("latency.p50", 12.0, "warn"),
        Limit("memory.rss", 200_000_000),
        Limit("quality.map", 0.9),
        Limit("quality.map_drop", 0.01),
        Limit("quality.map_drop_asymmetric", 0.015, points=True),
        Limit("quality.bit_flips", 0.005),
        Limit("instructions.total", 3e6),
    )
    assert budget(storage__library="+5 %").limits == (Limit("storage.library", 0.05, relative=True),)
    assert budget(quality__map="+1 point").limits == (Limit("quality.map", 0.01, relative=True, points=True),)
    assert budget(quality__map_drop=0.01).limits == (Limit("quality.map_drop", 0.01, points=True),)


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
        'latency.p50: 12 has no unit; did you mean "12 ms"?',
        "unknown level of memory.rss 'fatal' (there are: error, warn)",
        "unknown key of quality.map 'levle'; did you mean 'level'?",
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
    assert str(found) == "quality.map: 85 %, budget 90 % (5 points below, measured)"
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
    limits = budget(quality__map_drop="1 point")
    (found,) = check(report(map_=0.88), limits, report(map_=0.9))
    assert found.measured.value == pytest.approx(0.02)
    assert str(found) == "quality.map_drop: 2 points, budget 1 point (1 point over, measured)"
    assert check(report(map_=0.895), limits, report(map_=0.9)) == ()


def test_percent_of_the_original_are_not_points():
    """A drop from 50 % to 49.2 % is 0.8 points, but 1.6 % of the original's mAP."""
    now = replace(report(), figures={name: Figure(value, "share", "measured") for name, value in DROP.items()})
    assert check(now, budget(quality__map_drop="1 point", quality__map_drop_asymmetric="1 point")) == ()
    (found,) = check(now, budget(quality__map_drop="1 %"))
    assert found.limit == pytest.approx(0.005)
    stated = "0.5 points, that is 1 % of the original's mAP of 50 %"
    assert str(found) == f"quality.map_drop: 0.8 points, budget {stated} (0.3 points over, measured)"
    assert check(now, budget(quality__map_drop="2 %", quality__map_drop_asymmetric="1 %")) == ()
    with pytest.raises(BudgetError, match='a share of the original\'s mAP, which the report lacks; write "1 point"'):
        check(
            replace(now, figures={"quality.map_drop": now.figures["quality.map_drop"]}), budget(quality__map_drop="1 %")
        )


def test_growth_in_points_and_in_percent():
    base = report(map_=0.5)
    assert check(report(map_=0.491), budget(quality__map="+1 point"), base) == ()
    (found,) = check(report(map_=0.491), budget(quality__map="+1 %"), base)
    assert found.limit == pytest.approx(0.495)
    assert "budget 49.5 %, that is -1 % on the baseline's 50 % (0.4 points below" in str(found)


def test_growth_from_a_negative_or_zero_baseline_is_growth():
    """A network better than its original has a negative drop; +50 % of -2 points is -1 point, not -3."""
    drops = [replace(report(), figures={"quality.map_drop": Figure(v, "share", "measured")}) for v in (-0.015, -0.02)]
    assert check(drops[0], budget(quality__map_drop="+50 %"), drops[1]) == ()
    assert len(check(drops[0], budget(quality__map_drop="+20 %"), drops[1])) == 1


@pytest.mark.parametrize(
    ("name", "entry", "question"),
    [
        ("quality.map", 90, '90 would be 9,000 %; did you mean 0.90 or "90 %"?'),
        ("quality.map", "90", '"90" would be 9,000 %; did you mean 0.90 or "90 %"?'),
        ("quality.map", "9000 %", '"9000 %" would be 9,000 %; write at most 100 %'),
        ("quality.map", "0.9 %", 'did you mean "90 %"?'),
        ("quality.map", -0.9, "-0.9 is negative"),
        ("quality.map", float("nan"), "nan is no quantity"),
        ("quality.map", "90 points", 'points are differences, quality.map is a share; did you mean "90 %"'),
        ("quality.bit_flips", 5, '5 would be 500 %; did you mean 0.05 or "5 %"?'),
        ("quality.bit_flips", 1, '1 is 100 %, which nothing exceeds; did you mean 0.01 or "1 %"?'),
        ("quality.map_drop", 2, 'did you mean 0.02 or "2 %"?'),
        ("quality.map_drop", "-1 point", "is negative; a limit is zero or more"),
        ("latency.p50", "12", "'12' has no unit; write one of us, µs, ms, s"),
        ("latency.p50", 12, 'did you mean "12 ms"?'),
        ("latency.p50", "-5 ms", "'-5 ms' is negative"),
        ("latency.p50", "+5 ms", 'growth is written "+5 %"'),
        ("latency.p50", "+5 points", 'write "+5 %" for this figure'),
        ("storage.file", 900000, 'did you mean "900000 B"?'),
        ("storage.file", "900 kbit", "unknown unit 'kbit' in '900 kbit'; did you mean 'kB'?"),
        ("storage.file", "-5 %", "storage.file"),
        ("storage.fiel", "5 kB", "unknown figure 'storage.fiel'; did you mean 'storage.file'?"),
        ("instructions.total", -3, "is negative"),
        (
            "latency.p50",
            {"limit": "5 ms", "level": "wran"},
            "unknown level of latency.p50 'wran'; did you mean 'warn'?",
        ),
        ("latency.p50", {"level": "warn"}, "latency.p50 has no limit"),
        ("latency.p50", {"limt": "5 ms"}, "unknown key of latency.p50 'limt'; did you mean 'limit'?"),
    ],
)
def test_what_is_hardly_meant_is_asked_about(name, entry, question):
    family, _, rest = name.partition(".")
    for table in ({name: entry}, {family: {rest: entry}}):
        with pytest.raises(BudgetError) as caught:
            parse_budget(table)
        assert question in str(caught.value)


def test_two_limits_on_one_figure():
    with pytest.raises(BudgetError, match=r"storage\.file has 2 limits; keep one"):
        parse_budget({"storage.file": "1 kB", "storage": {"file": "2 kB"}})


HERE = {"cpu": "Neoverse N1", "arch": "aarch64", "cores": 4, "threads": 1, "load": 0.1}


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"machine": HERE | {"cpu": "Xeon"}}, "processor Neoverse N1, baseline Xeon"),
        ({"machine": HERE | {"threads": 2}}, "threads 1, baseline 2"),
        ({"machine": HERE | {"cores": 8}}, "cores 4, baseline 8"),
        ({"target": "c"}, "target host, baseline c"),
        ({"device": "ssh:pi"}, "device local, baseline ssh:pi"),
    ],
)
def test_times_of_two_machines_are_refused_and_bytes_are_not(difference, reason):
    now, base = report(machine=HERE), report(file=1000, p50=1.0, **{"machine": HERE, **difference})
    with pytest.raises(BudgetError, match=r"latency\.p50 cannot be held against this baseline") as caught:
        check(now, budget(latency__p50="+5 %", storage__file="+50 %"), base)
    assert reason in str(caught.value)
    (found,) = check(now, budget(storage__file="+5 %"), base)
    assert found.metric == "storage.file"
    assert check(now, budget(latency__p50="2 ms"), base) == ()  # an absolute limit needs no baseline
    shown = markdown(now, (), base)
    assert "| latency.p50 | 1.5 ms | 1 ms | not comparable | measured |  |" in shown
    assert "| storage.file | 1.2 kB | 1 kB | +20.0 % |" in shown


def test_memory_of_another_machine_is_a_warning():
    limits = budget(memory__rss="+5 %", storage__file="+5 %")
    here, there = report(machine=HERE), report(machine=HERE | {"cpu": "Xeon"})
    (line,) = doubts(here, limits, there)
    assert line.startswith("memory.rss and its baseline are of different origin: processor Neoverse N1")
    assert doubts(here, limits, report(machine=HERE | {"load": 9.0})) == []
    assert doubts(here, limits, None) == []


def test_quality_on_other_data_is_refused():
    base, now = report(map_=0.9), report(map_=0.8)
    side = {**base.quality["symmetric"], "data": "cifar10", "protocol": "A"}
    base = replace(base, quality={**base.quality, "symmetric": side})
    for name in ("quality__map", "quality__map_drop"):
        with pytest.raises(BudgetError, match="data set digits, baseline cifar10; protocol B, baseline A"):
            check(now, budget(**{name: "+1 point" if name == "quality__map" else "1 point"}), base)


def timed(medians, **others):
    """A report whose latency was measured in as many processes as there are medians."""
    rows = [{"p50": value, "min": value, "p90": value, "p99": value, "open": 30.0} for value in medians]
    return report(p50=median(medians), timing={"processes": rows, **others}, machine=HERE)


def test_a_time_over_its_limit_by_less_than_the_processes_scatter_is_inconclusive():
    (found,) = check(timed([1.02, 0.93, 1.10, 1.04, 0.95]), budget(latency__p50="1 ms"))
    assert found.verdict == "inconclusive"
    assert "in 5 processes, the limit is 1 ms" in str(found)
    (found,) = check(timed([1.22, 1.19, 1.21, 1.2, 1.18]), budget(latency__p50="1 ms"))
    assert found.verdict == "error"
    assert check(timed([0.99, 0.93, 0.98, 0.9, 0.95]), budget(latency__p50="1 ms")) == ()


def test_a_pair_is_held_against_the_bundle_it_took_turns_with():
    """Both were slow in the same processes: their ratio is steady where their times are not."""
    base = [1.0, 1.4, 1.1, 1.3, 1.2, 1.05]
    rows = [{"p50": value} for value in base]
    limits = budget(latency__p50="+5 %")
    other = {"baseline": {"name": "base", "hashes": {"lib.so": "1"}, "processes": rows}}
    steady = timed([1.09 * value for value in base], **other)
    (found,) = check(steady, limits)  # needs no report of the baseline
    assert found.verdict == "error"
    assert check(timed([1.04 * value for value in base], **other), limits) == ()
    (found,) = check(
        timed([value * ratio for value, ratio in zip(base, (1.3, 0.9, 1.2, 1, 1.1, 1.06), strict=True)], **other),
        limits,
    )
    assert found.verdict == "inconclusive"
    assert "ratio " in found.inconclusive
    elsewhere = replace(report(machine=HERE | {"cpu": "Xeon"}), hashes={"lib.so": "1"})
    assert check(steady, limits, elsewhere)[0].verdict == "error"  # the same bundle, measured here
    with pytest.raises(BudgetError, match="cannot be held against"):
        check(steady, limits, replace(elsewhere, hashes={"lib.so": "2"}))


def test_an_excess_must_recur_in_both_halves():
    """Tight enough an interval, but only the first processes were slow."""
    values = [1.2, 1.2, 1.2, 1.2, 1.2, 1.2, 1.0, 1.0, 1.0, 1.2, 1.0]
    (found,) = check(timed(values), budget(latency__p50="1.01 ms"))
    assert found.verdict == "inconclusive"
    assert "only one half of the processes is over" in found.inconclusive


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
    assert "| quality.bit_flips | 1 % | 0 % | +1.00 points | measured |  |" in markdown(report(), (), zero)
    zero = replace(report(), figures={"storage.file": Figure(0, "B", "measured")})
    assert "| storage.file | 1.2 kB | 0 B | new | measured |  |" in markdown(report(), (), zero)


def test_junit_has_a_case_for_every_limit():
    now = timed([1.02, 0.93, 1.10, 1.04, 0.95])
    limits = budget(
        latency__p50="1 ms", storage__file="1 kB", quality__map=0.8, memory__rss={"limit": "1 MB", "level": "warn"}
    )
    shown = junit(now, check(now, limits), limited=[limit.metric for limit in limits.limits])
    suite = ET.fromstring(shown).find("testsuite")  # noqa: S314
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "1",
    }
    verdicts = {case.get("name"): [child.tag for child in case] for case in suite}
    assert verdicts == {
        "latency.p50": ["skipped"],
        "storage.file": ["failure"],
        "quality.map": [],
        "memory.rss": ["system-out"],
    }
    assert ET.fromstring(junit(report(name="<&\x01>"), ())).tag == "testsuites"  # noqa: S314


def test_gitlab_issues_keep_their_fingerprint():
    limits = budget(storage__file="1 kB", latency__p50={"limit": "1 ms", "level": "warn"})
    issues, again = (json.loads(gitlab(one, check(one, limits))) for one in (report(), report(file=1300)))
    assert [issue["severity"] for issue in issues] == ["major", "minor"]
    assert [issue["fingerprint"] for issue in issues] == [issue["fingerprint"] for issue in again]
    assert len({issue["fingerprint"] for issue in issues}) == 2
    assert all({"description", "check_name", "location"} <= issue.keys() for issue in issues)
