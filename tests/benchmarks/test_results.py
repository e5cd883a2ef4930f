"""Result files and the status of everything that was asked for."""

import json
import re
import subprocess

import pytest

from benchmarks import status
from benchmarks.lib import results_io


def written(name, folder, *targets, values=None, **about):
    settings = {"kind": "measured", "settings": {"lr": 0.1}, "settings_tried": 2} | about
    output = results_io.Output(folder, allow_dirty=True)
    return results_io.write_result(name, values or {}, list(targets), output=output, **settings)


def test_a_result_says_where_it_comes_from(tmp_path):
    targets = [results_io.Target("mAP", 0.92, ">=", 0.91), results_io.Target("ratio", 15.0, ">=", 16.0)]
    found = json.loads(written("spine", tmp_path, *targets, values={"mAP": 0.92}, seed=3).read_text())
    assert found["targets"] == [
        {"name": "mAP", "value": 0.92, "op": ">=", "limit": 0.91, "reached": True},
        {"name": "ratio", "value": 15.0, "op": ">=", "limit": 16.0, "reached": False},
    ]
    assert (found["kind"], found["seed"], found["values"]) == ("measured", 3, {"mAP": 0.92})
    assert (found["settings"], found["settings_tried"]) == ({"lr": 0.1}, 2)
    assert found["machine"]["cpu"]
    assert found["versions"]["numpy"]


def git(folder, *words):
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", folder, *name, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_named_and_a_changed_source_is_refused(tmp_path, monkeypatch):
    repository, results = tmp_path / "house", tmp_path / "house" / "benchmarks" / "results"
    results.mkdir(parents=True)
    (repository / "code.py").write_text("a = 1\n")
    monkeypatch.setattr(results_io, "ROOT", repository)
    monkeypatch.setattr(results_io, "FOLDER", results)
    published, elsewhere = results_io.Output(results), results_io.Output(tmp_path / "else", allow_dirty=True)
    with pytest.raises(SystemExit, match="there is no git repository here"):
        published.commit()
    assert elsewhere.commit() == "unknown"
    git(repository, "init")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "one")
    head = git(repository, "rev-parse", "HEAD")
    assert published.commit() == elsewhere.commit() == head
    (results / "a.json").write_text("{}")  # what another benchmark has just written
    assert published.commit() == head
    for change in ("code.py", "new.py"):
        (repository / change).write_text("a = 2\n")
        with pytest.raises(
            SystemExit, match=rf"not committed: {change}; commit them first, or write elsewhere: --results"
        ):
            published.commit()
        with pytest.raises(SystemExit, match="commit them first"):
            results_io.Output(results, allow_dirty=True).commit()
        assert elsewhere.commit() == f"{head}-dirty"
        git(repository, "add", ".")
        git(repository, "commit", "-m", change)
        head = git(repository, "rev-parse", "HEAD")
        assert published.commit() == head


def test_nothing_is_written_when_sources_are_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(results_io, "FOLDER", tmp_path)
    monkeypatch.setattr(results_io, "changes", lambda _: ["core/model.py"])
    with pytest.raises(SystemExit, match=r"core/model\.py"):
        written("a", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_results_go_is_read_from_the_command_line(tmp_path):
    assert results_io.output_of(["a", "b"]) == (["a", "b"], results_io.Output())
    found = results_io.output_of(["a", "--results", str(tmp_path), "--allow-dirty", "b"])
    assert found == (["a", "b"], results_io.Output(tmp_path, allow_dirty=True))
    with pytest.raises(SystemExit, match="add --results FOLDER"):
        results_io.output_of(["--allow-dirty"])


def test_every_published_result_names_its_commit_and_the_settings_looked_at():
    for path in results_io.FOLDER.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["commit"] == "unknown" or re.fullmatch("[0-9a-f]{40}", content["commit"]), path.name
        assert content["settings"], path.name
        assert content["settings_tried"] or content["settings_tried"] == 0, path.name


def test_no_published_figure_stands_twice_or_counts_cells():
    found = status.rows(results_io.FOLDER)
    names = [row.name for row in found]
    assert len(set(names)) == len(names)
    assert [name for name in names if re.search(r"measured on|: cells|networks of ours", name)] == []


def test_kinds_and_numbers_are_checked(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'guessed'"):
        written("x", tmp_path, kind="guessed")
    with pytest.raises(ValueError, match="JSON compliant"):
        written("x", tmp_path, values={"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
    assert not results_io.Target("x", float("nan"), "<=", 1.0).reached


@pytest.mark.parametrize(("value", "code", "word"), [(0.5, 0, "reached"), (1.5, 1, "MISSED")])
def test_status_lists_everything_and_exits_with_1_when_one_is_missed(tmp_path, capsys, value, code, word):
    written("a", tmp_path, results_io.Target("fine", 1.0, "<=", 1.0))
    written("b", tmp_path, results_io.Target("loss", value, "<=", 1.0))
    assert status.main(tmp_path) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["reached", word]
    assert lines[1].split()[1:3] == ["b", "loss"]
    assert lines[2:] == [f"{2 - code} of 2 figures reach their limits"]


def test_readme_says_how_many_figures_are_reached(capsys):
    """README, the command and the result files themselves agree."""
    counts = [
        target["reached"]
        for path in results_io.FOLDER.glob("*.json")
        for target in json.loads(path.read_text(encoding="utf-8"))["targets"]
    ]
    status.main()
    words = f"{sum(counts)} of {len(counts)} figures reach their limits"
    assert capsys.readouterr().out.splitlines()[-1] == words
    assert words in (results_io.ROOT / "README.md").read_text(encoding="utf-8")


def test_no_target_at_all_is_a_miss(tmp_path):
    assert status.main(tmp_path) == 1


def test_a_result_that_contradicts_itself_is_not_believed(tmp_path):
    target = {"name": "x", "value": 2.0, "op": "<=", "limit": 1.0, "reached": True}
    (tmp_path / "a.json").write_text(json.dumps({"targets": [target]}))
    with pytest.raises(SystemExit, match=r"a\.json: x says reached True"):
        status.main(tmp_path)
