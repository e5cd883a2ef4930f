"""docs/papers.md says what the result files of the papers say, and nothing that was not run looks as if it had been."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "papers"


@pytest.fixture(scope="module")
def document():
    place = importlib.util.spec_from_file_location("document", SCRIPTS / "document.py")
    script = importlib.util.module_from_spec(place)
    place.loader.exec_module(script)
    return script


def page(document, folder, **values):
    """Return the section of a paper whose result file holds ``values``."""
    result = {"machine": {"cpu": "a machine"}, "targets": values.pop("targets", []), "values": values}
    (folder / "qcnn.json").write_text(json.dumps(result))
    return document.document(folder, {"qcnn": SCRIPTS / "qcnn.py"})


def test_the_page_is_the_one_of_the_results(document):
    made = document.document(ROOT / "benchmarks" / "results", document.papers())
    assert (ROOT / "docs" / "papers.md").read_text(encoding="utf-8") == made, "run benchmarks/papers/document.py"


def test_every_script_with_cells_has_a_section(document):
    keeping = {path for path in SCRIPTS.glob("*.py") if "\nBOOK = " in path.read_text(encoding="utf-8")}
    assert set(document.papers().values()) == keeping
    assert len(keeping) > 6


def test_a_row_has_both_figures_their_difference_and_the_mark(document, tmp_path):
    row = {
        "what": "net",
        "unit": "%",
        "published": 1.45,
        "ours": 1.61,
        "why": "not tuned",
        "source": "recalled, not checked",
    }
    found = page(document, tmp_path, ours={"net": {"error": 1.61}}, paper={}, rows=[row])
    assert "| net | % | 1.45 (*recalled*) | 1.61 | +0.16 | not tuned |" in found
    seen = page(document, tmp_path, ours={}, paper={}, rows=[row | {"source": "abstract"}])
    assert "| 1.45 (abstract) |" in seen


def test_what_was_not_run_or_is_not_known_has_no_figure(document, tmp_path):
    row = {"what": "net", "unit": "%", "published": 1.45, "ours": None, "why": "", "source": "abstract"}
    rows = [row, row | {"published": None, "ours": 2.5}]
    found = page(document, tmp_path, ours={}, paper={}, rows=rows)
    assert "| net | % | 1.45 (abstract) | not run |  |  |" in found
    assert "| net | % | unknown | 2.5 |  |  |" in found
    assert "not run, there is no result file" in document.document(tmp_path / "empty", document.papers())


def test_results_without_rows_show_cells_and_targets(document, tmp_path):
    targets = [{"name": "gap", "value": 0.5, "op": "<=", "limit": 0.1, "reached": False}]
    ours = {"a": {"error": 1.5, "file_bytes": 397671}, "b": {"points": [0.1, 0.2]}}
    found = page(document, tmp_path, ours=ours, paper={"note": "no paper"}, targets=targets)
    assert "beyond" not in found
    stricter = [one | {"name": "gap again", "beyond": True} for one in targets]
    assert "| beyond what was asked for | found" in page(document, tmp_path, ours=ours, paper={}, targets=stricter)
    for line in (
        "- note: no paper",
        "| gap | 0.5 | <= 0.1 | **missed** |",
        "| a | 1.5 | 397,671 |",
        "| b | 0.1, 0.2 |",
    ):
        assert line in found


def test_a_new_clone_adds_to_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    place = importlib.util.spec_from_file_location("cells", SCRIPTS / "cells.py")
    cells = importlib.util.module_from_spec(place)
    monkeypatch.setitem(sys.modules, "cells", cells)  # its dataclasses look for it
    sys.path[:0] = [str(SCRIPTS), str(SCRIPTS.parent)]
    place.loader.exec_module(cells)
    monkeypatch.setattr(cells, "FOLDER", tmp_path)
    monkeypatch.setattr(cells, "HERE", tmp_path / "benchmarks" / "papers")
    book = cells.Book("net")
    assert book.found() == {}
    before = {"a-b": {"error": 1}, "a": {"error": 2}}
    (tmp_path / "net.json").write_text(json.dumps({"values": {"ours": before}}))
    book.cell("a", lambda: {"error": 3})
    assert list(book.found().items()) == [("a-b", {"error": 1}), ("a", {"error": 3})]
