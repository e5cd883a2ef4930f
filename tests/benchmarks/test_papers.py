"""docs/papers.md says what the result files of the papers say, and nothing that was not run looks as if it had been."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.lib import cells, document
from benchmarks.lib.document import Line, Paper

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "papers"
LINES = [(name, line) for name, paper in document.claims().items() for line in paper.lines]
ROW = {
    "what": "net",
    "unit": "%",
    "published": 1.45,
    "ours": 1.61,
    "why": "not tuned",
    "source": "recalled, not checked",
}


def page(folder, *lines, targets=(), **values):
    """Return the section of a paper with these lines, whose result file holds ``values``."""
    result = {"machine": {"cpu": "a machine"}, "targets": list(targets), "values": {"ours": {}, "paper": {}} | values}
    (folder / "qcnn.json").write_text(json.dumps(result))
    return document.document(folder, {"qcnn": SCRIPTS / "qcnn.py"}, {"qcnn": Paper("It works.", lines)})


def test_the_page_is_the_one_of_the_results():
    made = document.document(document.RESULTS, document.papers(), document.claims())
    assert (ROOT / "docs" / "papers.md").read_text(encoding="utf-8") == made, "run python -m benchmarks.lib.document"


def test_every_script_with_cells_has_a_short_section():
    keeping = {path for path in SCRIPTS.glob("*.py") if "\nBOOK = " in path.read_text(encoding="utf-8")}
    assert set(document.papers().values()) == keeping
    assert len(keeping) > 6
    assert document.claims().keys() == document.papers().keys()
    assert {name: len(paper.lines) for name, paper in document.claims().items() if len(paper.lines) > 13} == {}


@pytest.mark.parametrize(("name", "line"), LINES, ids=lambda value: getattr(value, "what", value))
def test_every_line_names_figures_that_are_there(name, line):
    """A wrong name would look like a cell that was not run."""
    result = json.loads((document.RESULTS / f"{line.file or name}.json").read_text(encoding="utf-8"))
    assert sum(map(bool, (line.row, line.ours, line.target))) == 1
    assert line.better in ("less", "more")
    if line.row:
        assert line.row in [row["what"] for row in result["values"]["rows"]]
    if line.target:
        assert line.target in [target["name"] for target in result["targets"]]
    for place in [*(re.findall(r"\{(.+?)\}", line.ours) or [line.ours] * bool(line.ours)), line.published]:
        assert not place or document._at(result["values"], place) is not None


def test_whatever_is_behind_says_why():
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert "| **behind**: " in text
    assert "| **behind** |" not in text


def test_a_row_has_both_figures_and_a_verdict(tmp_path):
    for line, verdict in (
        (Line("net", row="net"), "**behind**: not tuned"),
        (Line("net", row="net", why="one start"), "**behind**: one start"),
        (Line("net", row="net", near=0.16), "*within* 0.16"),
        (Line("net", row="net", near=0.15), "**behind**: not tuned"),
        (Line("net", row="net", better="more"), "reached"),
    ):
        assert f"| net | 1.45 (*recalled*) | 1.61 | {verdict} |" in page(tmp_path, line, rows=[ROW])
    seen = page(tmp_path, Line("net", row="net"), rows=[ROW | {"source": "abstract", "ours": 1.45}])
    assert "| 1.45 (abstract) | 1.45 | reached |" in seen


def test_what_was_not_run_or_is_not_known_has_no_figure(tmp_path):
    missing = ROW | {"ours": None, "why": "no data"}
    found = page(tmp_path, Line("net", row="net", why="one start"), rows=[missing])
    assert "| net | 1.45 (*recalled*) | not run | no data |" in found
    found = page(tmp_path, Line("net", row="net"), rows=[ROW | {"published": None, "ours": 2.5}])
    assert "| net |  | 2.5 |  |" in found
    known = {"a": {"map": 0.5}}
    for ours in ("ours / b / map", "{ours / a / map} and {ours / b / map}"):
        assert "| net |  | not run |  |" in page(tmp_path, Line("net", ours=ours), ours=known)
    assert "| gap |  | not run |  |" in page(tmp_path, Line("gap", target="gap"))
    empty = document.document(tmp_path / "empty", document.papers(), document.claims())
    assert empty.count("not run, there is no result file") == len(document.papers())
    assert "reached |" not in empty


def test_places_in_the_result_file_give_figures(tmp_path):
    known, paper = {"a": {"error": 1.5, "file_bytes": 397671}}, {"net": {"error": 2}}
    text = page(tmp_path, Line("net", ours="{ours / a / file_bytes} bytes, error {ours / a / error}"), ours=known)
    assert "| net |  | 397,671 bytes, error 1.5 |  |" in text
    line = Line("net", ours="ours / a / error", published="paper / net / error")
    assert "| net | 2 | 1.5 | reached |" in page(tmp_path, line, ours=known, paper=paper)


def test_targets_show_their_limit_and_all_of_them_are_counted(tmp_path):
    target = {"name": "gap", "value": 0.5, "op": "<=", "limit": 0.1, "reached": False}
    found = page(tmp_path, Line("net", target="gap", why="one start"), targets=[target])
    assert "| net | *limit* <= 0.1 | 0.5 | **behind**: one start |" in found
    assert "0 of 1 figures reach their limits" in " ".join(found.split())
    assert "settings looked at: unknown" in " ".join(found.split())


@pytest.mark.parametrize(
    ("value", "verdict"), [(-0.1, "equal"), (0.1, "equal"), (0.3, "reached"), (-0.3, "**behind**: one start")]
)
def test_a_difference_within_two_standard_errors_is_called_equal(tmp_path, value, verdict):
    name = "mAP, ours minus theirs, equal within two standard errors"
    target = {"name": name, "value": value, "op": ">=", "limit": -0.2, "reached": value >= -0.2}
    found = page(tmp_path, Line("net", target=name, why="one start"), targets=[target])
    assert f"| net | *limit* >= -0.2 | {value} | {verdict} |" in found


def test_a_paper_without_a_claim_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"claims\.toml has no \[qcnn\]"):
        document.document(tmp_path, {"qcnn": SCRIPTS / "qcnn.py"}, {})


def test_a_new_clone_adds_to_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "FOLDER", tmp_path)
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    book = cells.Book("net")
    assert book.found() == {}
    before = {"a-b": {"error": 1}, "a": {"error": 2}}
    (tmp_path / "net.json").write_text(json.dumps({"values": {"ours": before}}))
    book.cell("a", lambda: {"error": 3})
    assert list(book.found().items()) == [("a-b", {"error": 1}), ("a", {"error": 3})]
