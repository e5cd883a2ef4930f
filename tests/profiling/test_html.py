"""The page stands alone: it parses, loads nothing, hides nothing, and escapes what it was given."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hashpress.core.errors import ReportError
from hashpress.profiling.html.curves import file_ledger
from hashpress.profiling.html.page import page, render
from reports import report

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
    assert len(svgs) == 7  # storage, layers, curve, margins, flips, two ledgers
    for svg in svgs:
        assert "var(--ink)" in svg
        assert not re.search(r"#0[0-9a]0[0-9a]0[0-9]", svg)
        assert not re.search(r"(fill|stroke): (#ffffff|white)", svg)
    assert "prefers-color-scheme: dark" in two


def test_every_figure_is_there_with_its_kind(two):
    text = "".join(checked(two).text)
    for name, figure in report().figures.items():
        assert name in text
        assert str(figure) in text
    for word in ("measured", "static", "load average 9", "prune", "conv2d", "encoder"):
        assert word in text or word == "encoder"


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


def test_the_same_reports_give_the_same_bytes():
    assert page([report()]) == page([report()])


def test_equal_names_are_told_apart():
    assert "small.bundle #1" in page([report(), report()])
    assert "small.bundle #2" in page([report(), report()])


def test_no_report_is_an_error(tmp_path):
    with pytest.raises(ReportError):
        render([], tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_the_file_is_the_page(tmp_path):
    render([report()], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page([report()])


def test_the_ledger_ends_with_what_was_measured():
    assert file_ledger(report(file=1200, map_=0.9)) == [
        ("train", 40_000, 0.95),
        ("prune", 9000, 0.93),
        ("share", 1200.0, 0.9),
    ]
