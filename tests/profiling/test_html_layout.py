"""The page fits a telephone, a tablet and a desk: by the widths of its texts and rules, and in Chromium if it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from hashpress.profiling.html.page import page
from hashpress.profiling.report import Layer, Part, Report
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from reports import report

LONG = "resnet20-deep-compression-with-a-rather-long-name.bundle"
PLOT = re.compile(r'<svg viewBox="0 0 ([0-9.]+) ([0-9.]+)"[^>]*aria-label="([^"]*)">(.*?)</svg>', re.DOTALL)
TEXT = re.compile(r'<text style="font-size: ([0-9.]+)px([^"]*)"([^>]*)>([^<]*)</text>')
PLACE = re.compile(r"rotate\((-?[0-9.]+)(?: (-?[0-9.]+) (-?[0-9.]+))?\)")
RANGES = (
    (0, 1e-6),
    (1e-6, 1e-5),
    (1e-5, 1e-4),
    (1e-4, 1e-3),
    (1e-3, 1e-2),
    (1e-2, 0.1),
    (0.1, 0.2),
    (0.2, 0.5),
    (0.5, 1),
    (1, None),
)
SLIM_PIXELS, WIDE_PIXELS = 390 - 2 * 13.5 - 2 * 8.5, 800 - 40 - 26  # what a figure has at 390 and at 800 pixels


def crowded(name: str, seed: int) -> Report:
    """A report of a large network: 48 bits, 20 layers with long names, ten ranges of margins, six steps."""
    one = report(name, file=100_000 + 7 * seed, map_=0.9 - seed / 100)
    flips = {
        **one.quality["flips"],
        "per_bit": [(17 * place % 11) / 300 for place in range(48)],
        "margins": [
            {"low": low, "high": high, "outputs": 3 ** (place + 1), "flipped": 3 * max(8 - place, 0)}
            for place, (low, high) in enumerate(RANGES)
        ],
    }
    layers = [Layer(f"encoder.features.stage{place}.block.conv1_and_norm", one.layers[0].cost) for place in range(20)]
    groups = ("values", "codebooks", "biases", "metadata", "tables", "library", "manifest", "golden", "other")
    parts = tuple(Part(f"p{place}", group, 20_000 - 2000 * place) for place, group in enumerate(groups))
    steps = [
        {"name": "finetune", "before": {"bytes": 900_000 // place, "map": 0.9 + place / 1000}} for place in range(1, 7)
    ]
    return replace(
        one, quality={**one.quality, "flips": flips}, layers=tuple(layers), parts=parts, history=tuple(steps)
    )


@pytest.fixture(scope="module")
def text() -> str:
    return page([crowded("base.bundle", 0), crowded(LONG, 1), crowded("int8.bundle", 2)])


@cache
def advance(sign: str, weight: str = "normal") -> float:
    """Width of a character per unit of the font's size, in the widest of the usual fonts."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), f"|{sign}|", size=100, prop=font).get_extents().width) / 100 - bars(weight)


@cache
def bars(weight: str) -> float:
    """Width of the two bars between which a character is measured."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), "||", size=100, prop=font).get_extents().width) / 100


def width_of(words: str, size: float, weight: str = "normal") -> float:
    return size * sum(advance(sign, weight) for sign in words)


def boxes(body: str) -> list[tuple[str, float, float, float, float, float]]:
    """Text, left, top, right, bottom and font size of every text of a plot, by the metrics of the widest usual font."""
    found = []
    for size, style, attributes, words in TEXT.findall(body):
        turned, x, y = PLACE.search(attributes).groups()
        moved = re.search(r"translate\((-?[0-9.]+) (-?[0-9.]+)\)", attributes)
        x, y = (float(value) for value in (moved.groups() if moved else (x, y)))
        width = width_of(unescape(words), float(size))
        shift = {"middle": width / 2, "end": width}.get((re.search(r"text-anchor: (\w+)", style) or [0, "start"])[1], 0)
        height = 0.75 * float(size)
        if abs(float(turned)) > 45:
            found.append((words, x - height, y + shift - width, x, y + shift, float(size)))
        else:
            found.append((words, x - shift, y - height, x - shift + width, y, float(size)))
    return found


def test_labels_fit_and_do_not_overlap(text):
    plots = PLOT.findall(text)
    assert len(plots) == 2 * 9
    for width, height, about, body in plots:
        placed = boxes(body)
        assert placed
        for number, (words, left, top, right, bottom, _) in enumerate(placed):
            inside = left > -1 and top > -1 and right < float(width) + 1 and bottom < float(height) + 1
            assert inside, f"{about} ({width} wide): {words!r} leaves the plot"
            for other, left2, top2, right2, bottom2, _ in placed[:number]:
                apart = min(right, right2) - max(left, left2) < 2 or min(bottom, bottom2) - max(top, top2) < 2
                assert apart, f"{about} ({width} wide): {words!r} lies on {other!r}"


def test_labels_are_large_enough_to_read(text):
    """At 390 and at 800 pixels no label is drawn smaller than 7.5 and 8.5 pixels."""
    for form, pixels, least in (("slim", SLIM_PIXELS, 7.5), ("wide", WIDE_PIXELS, 8.5)):
        parts = re.findall(rf'<div class="{form}">(<svg.*?</svg>)</div>', text, flags=re.DOTALL)
        assert len(parts) == 9
        for part in parts:
            ((width, _, about, body),) = PLOT.findall(part)
            scale = pixels / float(width)
            sizes = [size * scale for *_, size in boxes(body)]
            assert min(sizes) >= least, (form, about, min(sizes))


def rules(style: str) -> tuple[dict[str, str], dict[str, str]]:
    """Declarations by selector, those for every width and those for telephones."""
    inner = re.search(r"@media \(max-width: 640px\) \{(.*?)\n\}", style, re.DOTALL)[1]
    outer = style.replace(inner, "")
    return tuple(
        {selector.strip(): body.strip() for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", part)}
        for part in (outer, inner)
    )


def test_one_form_of_each_plot_is_shown(text):
    everywhere, telephone = rules(re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1])
    assert "display: none" in everywhere["figure .slim"]
    assert "display: none" in telephone["figure .wide"]
    assert "display: block" in telephone["figure .slim"]
    assert "width: 100%" in everywhere["svg"]


def test_nothing_is_wider_than_a_telephone(text):
    """Lengths in the style, in pixels of 15 to the em at most, leave room in 390; tables scroll in their box."""
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    everywhere, telephone = rules(style)
    least = {**everywhere, **telephone}
    for selector, body in least.items():
        for amount, unit in re.findall(r"(?:^|;|\s)(?:min-)?width: ([0-9.]+)(px|rem)", body):
            assert float(amount) * (16 if unit == "rem" else 1) < SLIM_PIXELS, selector
    (tile,) = re.findall(r"minmax\(([0-9.]+)rem", everywhere[".tiles"])
    assert 2 * 16 * float(tile) + 0.6 * 16 < 390 - 2 * 14.4  # two tiles beside each other
    assert text.count('<div class="scroll"><table') == text.count("<table")
    assert "overflow-x: auto" in everywhere[".scroll"]


def test_values_fit_their_tiles(text):
    room = (390 - 2 * 14.4 - 9.6) / 2 - 2 * 12 - 2
    values = re.findall(r"<strong>([^<]*)</strong>", text)
    assert values
    for value in [*values, "-12.34 points", "999.9 kB"]:
        assert width_of(value, 1.2 * 16, "bold") < room, value


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_no_page_scrolls_sideways_in_chromium(text, tmp_path, width):
    """The page reports its own width in a frame of each width, because windows of 390 pixels do not exist everywhere."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        pytest.skip("needs a browser: apt-get install chromium")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    frame = (
        f'<body><iframe id="f" src="page.html" style="border:0;width:{width}px;height:900px"></iframe><p id="said"></p><script>'
        'document.getElementById("f").onload = e => { const d = e.target.contentDocument.documentElement; '
        'const wide = [...d.querySelectorAll("body *")].filter(x => !x.closest(".scroll") && !x.closest("svg") '
        "&& x.getBoundingClientRect().right > d.clientWidth + 1).map(x => x.className || x.tagName); const slim = "
        'd.querySelector("figure .slim").clientWidth > 0; '
        'document.getElementById("said").textContent = JSON.stringify([d.scrollWidth - d.clientWidth, wide, slim]); };</script></body>'
    )
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'user'}",
         "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (said,) = re.findall(r'<p id="said">([^<]*)</p>', done.stdout)
    assert said == f"[0,[],{str(width < 640).lower()}]"


def test_the_page_is_written_for_both_colour_schemes():
    style = (Path(page.__code__.co_filename).parent / "style.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"(--[a-z0-9-]+):", light))
    assert names == set(re.findall(r"(--[a-z0-9-]+):", dark.split("}")[0]))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", style)) <= names
