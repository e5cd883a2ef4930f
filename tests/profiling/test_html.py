"""The page stands alone: it parses, loads nothing, hides nothing, and escapes what it was given."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hashpress.core.errors import ReportError
from hashpress.profiling.html import plots
from hashpress.profiling.html.curves import file_ledger, precision_recall
from hashpress.profiling.html.page import page, render
from hashpress.profiling.html.tiles import models
from hashpress.profiling.report import Figure, show_metric
from reports import quality, report

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Collects attributes and text; complains about tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text, self.problems = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.problems
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def two():
    return page([report("base.bundle", file=39_000, map_=0.95), report("small.bundle")])


def test_it_parses_and_every_tag_is_closed(two):
    checked(two)


def test_it_loads_nothing(two):
    for tag, name, value in checked(two).attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert value.startswith("#"), (tag, name, value)
    assert not re.search(r"https?://|@import|url\((?!#)|<script|<link|<iframe", two)


def test_identifiers_are_unique_and_references_lead_somewhere(two):
    reader = checked(two)
    identifiers = [value for _, name, value in reader.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    wanted = {value[1:] for _, name, value in reader.attributes if name == "href"}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", two))
    assert wanted <= set(identifiers)


def test_colours_follow_the_page(two):
    svgs = re.findall(r"<svg.*?</svg>", two, flags=re.DOTALL)
    assert len(svgs) == 2 * 8  # sizes and quality, storage, layers, curve, margins, flips, two ledgers; wide and slim
    for svg in svgs:
        assert "var(--ink)" in svg
        assert not re.search(r"#0[0-9ab]0[0-9ab]0[0-9]", svg)
        assert not re.search(r"(fill|stroke): (#ffffff|white)", svg)
    assert "prefers-color-scheme: dark" in two


def test_every_figure_is_there_with_its_kind(two):
    text = "".join(checked(two).text)
    for name, figure in report().figures.items():
        assert name in text
        assert show_metric(name, figure.value) in text
    for word in ("measured", "static", "load average 9", "prune", "conv2d", "encoder"):
        assert word in text or word == "encoder"


def of_one_base(maps=(0.95, 0.9, 0.85)):
    """A base that was evaluated alone and two networks made from it, as the demo has them."""
    base, *small = (quality(map_, rate=0.01) for map_ in maps)
    curve = {"curve_precision": [1.0, 0.95, 0.9, 0.7, 0.1], "map": maps[0]}
    original = {**base["symmetric"], **curve}
    for place, value in enumerate(small):
        value["symmetric"] = {**value["symmetric"], "curve_precision": [0.9, 0.8, 0.7, 0.4 - place / 10, 0.1]}
        value["original"] = original
    return [
        report("base.bundle", file=39_000, map_=maps[0], quality={"symmetric": original}),
        *(
            report(f"small{place}.bundle", map_=map_, quality=value)
            for place, (map_, value) in enumerate(zip(maps[1:], small, strict=True))
        ),
    ]


def panels(text, about):
    """Both forms of the plots with this description."""
    return re.findall(rf'<svg[^>]*aria-label="{about}".*?</svg>', text, flags=re.DOTALL)


def words_of(svg):
    """Texts of a plot."""
    return re.findall(r"<text[^>]*>([^<]*)", svg)


@pytest.fixture(scope="module")
def family():
    """The page of a base and of two networks made from it."""
    return page(of_one_base())


def by_name(reports):
    return {one.name: one for one in reports}


def test_there_is_one_curve_of_the_original():
    curves, originals = precision_recall(by_name(of_one_base()[1:]))
    assert (list(curves), list(originals)) == (["small0.bundle", "small1.bundle"], ["original"])
    colours = plots.colours_of(list(curves))
    for slim in (False, True):
        words = words_of(plots.precision_recall(curves, originals, colours, "curve", "about", slim=slim))
        assert [word for word in words if "original" in word] == ["original"]
    curves, originals = precision_recall(by_name(of_one_base()))
    assert (len(curves), originals) == (3, {})  # the base's own curve is the original's
    other = of_one_base()[2]
    other.quality["original"]["curve_precision"][0] = 0.5
    _, originals = precision_recall(by_name([of_one_base()[1], other]))
    assert list(originals) == ["original of small0.bundle", "original of small1.bundle"]


def test_a_model_has_one_colour(family):
    names = [one.name for one in of_one_base()]
    assert re.findall(r'class="dot" style="background: ([^"]+)"></span>([^<]+)', family) == 2 * [
        (f"var(--series-{place})", name) for place, name in enumerate(names, start=1)
    ]
    ledgers = panels(family, "file size and quality after every step")
    assert len(ledgers) == 6
    for place, svg in enumerate(ledgers):
        assert set(re.findall(r"--series-\d", svg)) == {f"--series-{place // 2 + 1}"}
    for svg in panels(family, "bytes of the bundle by class"):
        assert "--series-" not in svg  # classes of bytes are no models
        assert "--class-" in svg
    for svg in panels(family, "share of inputs for which each bit flipped"):  # the base has no flips
        assert set(re.findall(r"--series-\d", svg)) == {"--series-2", "--series-3"}


def tiles_of(*reports):
    """Tiles of each model: description -> (value, verdict, change)."""
    cards = models(by_name(reports), [""] * len(reports))
    return [
        {tile["what"]: (tile["value"], tile["verdict"], tile["change"]) for tile in card["tiles"]} for card in cards
    ]


def test_every_model_has_tiles_with_its_change(two):
    first, second = report("a.bundle", file=2000, p50=1.0, map_=0.9), report("b.bundle", file=1000, p50=1.5, map_=0.88)
    one, other = tiles_of(first, second)
    assert one["model file"] == ("2 kB", "", "")
    assert other["model file"] == ("1 kB", "good", "-50.0 %")
    assert other["median latency"] == ("1.5 ms", "bad", "+50.0 %")
    assert other["mAP"] == ("88 %", "bad", "-2.00 points")
    assert other["bits flipped"] == ("1 %", "", "0 points")
    elsewhere = replace(second, machine={"cpu": "another"})
    assert tiles_of(first, elsewhere)[1]["median latency"] == ("1.5 ms", "", "not comparable")
    assert two.count('class="what">model file<') == 2
    assert '<span class="change good">-96.9 %</span>' in two


def test_memory_of_the_network_is_apart_from_that_of_the_interpreter(two):
    figures = {**report().figures, "memory.network": Figure(3_000_000, "B", "measured")}
    (one,) = tiles_of(report(figures=figures))
    assert one["memory of the network"][0] == "3 MB"
    assert one["memory of the process"][0] == "80 MB"
    assert "interpreter 60 MB" in two


def test_size_against_quality_has_all_models_and_the_original(family):
    found = panels(family, "mAP against bytes of the model file")
    assert len(found) == 2
    for svg in found:
        assert {"base.bundle", "small0.bundle", "small1.bundle", "original, float32"} <= set(words_of(svg))


def test_names_with_dollars_and_underscores_are_only_names():
    names = ["_a$b$c_{2}", "_b"]
    curves = dict.fromkeys(names, ((0.0, 1.0), (1.0, 0.0)))
    svg = plots.precision_recall(curves, {}, plots.colours_of(names), "curve", "about")
    assert set(names) <= set(words_of(svg))


def test_what_it_was_given_is_escaped():
    hostile = report('<script>alert("x")</script>', machine={"cpu": "</style><b>"}, noise=("<img src=x>",))
    text = page([hostile])
    assert "<script" not in text
    assert "<img" not in text
    assert "</style><b>" not in text
    checked(text)


def test_a_bare_report_has_a_page_too():
    bare = replace(report(), layers=(), parts=(), quality={}, history=(), figures={}, machine={}, noise=())
    text = page([bare])
    checked(text)
    assert "<svg" not in text


@pytest.fixture(scope="module")
def one():
    return page([report()])


def test_equal_names_are_told_apart():
    bare = replace(report(), layers=(), parts=(), quality={}, history=())
    text = page([bare, bare])
    assert "small.bundle #1" in text
    assert "small.bundle #2" in text


def test_no_report_is_an_error(tmp_path):
    with pytest.raises(ReportError):
        render([], tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_the_file_is_the_page_and_the_same_reports_give_the_same_bytes(one, tmp_path):
    render([report()], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == one


def test_the_ledger_ends_with_what_was_measured():
    assert file_ledger(report(file=1200, map_=0.9)) == [
        ("train", 40_000, 0.95),
        ("prune", 9000, 0.93),
        ("share", 1200.0, 0.9),
    ]
