"""Reports come back equal, and anything else than a report is refused with its reason."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hashpress.core.errors import ReportError
from hashpress.profiling.metrics import KINDS, METRICS
from hashpress.profiling.report import UNITS, Figure, Report, load_report, show, show_metric
from reports import report


def test_it_comes_back_equal(tmp_path):
    before = report()
    before.save(tmp_path / "report.json")
    assert load_report(tmp_path / "report.json") == before
    assert json.loads((tmp_path / "report.json").read_text())["format"] == 3


def test_the_same_report_gives_the_same_bytes(tmp_path):
    report().save(tmp_path / "a")
    load_report(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_is_frozen():
    with pytest.raises(FrozenInstanceError):
        report().name = "other"


def test_every_figure_shows_its_kind():
    text = str(report())
    for name, figure in report().figures.items():
        (line,) = [line for line in text.splitlines() if line.split()[0] == name]
        assert figure.kind in line
        assert show_metric(name, figure.value) in line


def test_reports_of_format_2_are_read(tmp_path):
    """The last format had neither hashes nor timing."""
    value = report().to_json() | {"format": 2}
    old = {name: entry for name, entry in value.items() if name not in ("hashes", "timing")}
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert load_report(tmp_path / "old.json") == report()
    (tmp_path / "new.json").write_text(json.dumps(old | {"format": 3}))
    with pytest.raises(ReportError, match="field 'hashes' is missing; field 'timing' is missing"):
        load_report(tmp_path / "new.json")


def test_all_metrics_have_known_units_and_kinds():
    for metric in METRICS.values():
        assert metric.unit in UNITS
        assert set(metric.kinds) <= set(KINDS)


def test_emulated_time_is_never_called_latency():
    for name, metric in METRICS.items():
        if name.startswith("latency."):
            assert metric.kinds == ("measured",)
    with pytest.raises(ReportError, match=r"latency.p50: expected unit ms and kind measured, found ms and emulated"):
        replace(report(), figures={"latency.p50": Figure(1.0, "ms", "emulated")})


@pytest.mark.parametrize(
    ("value", "unit", "kind"),
    [
        (float("nan"), "ms", "measured"),
        (float("inf"), "B", "static"),
        ("1", "B", "static"),
        (True, "B", "static"),
        (1.0, "furlong", "static"),
        (1.0, "B", "guessed"),
    ],
)
def test_what_is_no_figure(value, unit, kind):
    with pytest.raises(ReportError):
        Figure(value, unit, kind)


def test_an_unknown_figure_is_answered_with_the_nearest():
    with pytest.raises(ReportError, match=r"did you mean 'latency.p50'"):
        replace(report(), figures={"latency.p5": Figure(1.0, "ms", "measured")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("layers"), "field 'layers' is missing"),
        (lambda value: value.update(more=1), "unknown field 'more'"),
        (lambda value: value.update(parts={}), "field 'parts' must be list, found dict"),
        (lambda value: value.update(format=1), "report of format 1, this version of hashpress reads format 2 and 3"),
        (lambda value: value.pop("format"), "'format' is missing"),
        (lambda value: value["parts"].append({"name": "x"}), "field 'group' is missing; field 'bytes' is missing"),
        (lambda value: value["parts"][0].update(bytes=1.5), "field 'bytes' must be int, found float"),
        (lambda value: value["layers"].append(3), "a layer must be an object, found int"),
        (lambda value: value["figures"].update({"latency.min": {"value": 1.0}}), "field 'unit' is missing"),
        (lambda value: value["figures"].update({"latency.min": 3}), "figure 'latency.min' must be an object"),
        (lambda value: value["figures"]["latency.p50"].update(value=True), "field 'value' must be float, found bool"),
        (lambda value: value["figures"]["latency.p50"].update(kind="emulated"), "found ms and emulated"),
    ],
)
def test_loading_is_strict(tmp_path, change, message):
    value = report().to_json()
    change(value)
    (tmp_path / "r.json").write_text(json.dumps(value))
    with pytest.raises(ReportError, match=message) as caught:
        load_report(tmp_path / "r.json")
    assert "\n" not in str(caught.value)
    assert "hashpress profile" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"format": NaN}', "\x00", "{}"])
def test_what_is_no_report(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ReportError):
        load_report(tmp_path / "r.json")


def test_a_missing_or_binary_report(tmp_path):
    with pytest.raises(ReportError, match="No such file"):
        load_report(tmp_path / "none.json")
    (tmp_path / "r.json").write_bytes(bytes(range(256)))
    with pytest.raises(ReportError, match="not JSON"):
        load_report(tmp_path / "r.json")
    with pytest.raises(ReportError, match="Is a directory"):
        load_report(tmp_path)


def test_quantities_for_people():
    assert [show(67_500, "B"), show(0.5, "ms"), show(0.0035, "share"), show(1234567, "count")] == [
        "67.5 kB",
        "500 µs",
        "0.35 %",
        "1,234,567",
    ]


def test_integers_in_json_are_figures_too():
    value = report().to_json()
    value["figures"]["storage.file"]["value"] = 7
    assert Report.from_json(value).figures["storage.file"].value == 7.0
