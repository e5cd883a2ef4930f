"""The scripts that make the published figures still fit what they import."""

import subprocess
import sys
from pathlib import Path

from benchmarks.lib import cells

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "__init__.py")
LOAD = """
import importlib, sys
missing = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError, SystemExit) as fault:
        missing.append(f"{name}: {fault}")
sys.exit("\\n".join(missing) or 0)
"""


def test_every_script_can_be_started():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SCRIPTS]
    assert len(names) > 25
    command = [sys.executable, "-c", LOAD, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_model_files_that_name_a_network_of_the_papers_still_load(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    model = cells.empty("nets:mlp", widths=[8])
    book = cells.Book("net")
    kept = book.model("small", lambda _: model)
    assert kept.arch.encoder == "nets:mlp"
    assert [value.shape for value in kept.net.parameters()] == [value.shape for value in model.net.parameters()]


def test_no_script_changes_the_search_path():
    places = [*SCRIPTS, *(path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name)]
    assert [path.name for path in places if "sys.path" in path.read_text(encoding="utf-8")] == []
