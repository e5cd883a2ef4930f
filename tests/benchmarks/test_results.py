"""Result files and the status of everything that was asked for."""

import json

import pytest

from benchmarks import status
from benchmarks.lib import results_io


def test_a_result_says_where_it_comes_from(tmp_path):
    targets = [results_io.Target("mAP", 0.92, ">=", 0.91), results_io.Target("ratio", 15.0, ">=", 16.0)]
    path = results_io.write_result("spine", {"mAP": 0.92}, targets, kind="measured", seed=3, folder=tmp_path)
    found = json.loads(path.read_text())
    assert found["targets"] == [
        {"name": "mAP", "value": 0.92, "op": ">=", "limit": 0.91, "reached": True},
        {"name": "ratio", "value": 15.0, "op": ">=", "limit": 16.0, "reached": False},
    ]
    assert (found["kind"], found["seed"], found["values"]) == ("measured", 3, {"mAP": 0.92})
    assert found["machine"]["cpu"]
    assert found["versions"]["numpy"]


def test_kinds_and_numbers_are_checked(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'guessed'"):
        results_io.write_result("x", {}, [], kind="guessed", folder=tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        results_io.write_result("x", {"a": float("nan")}, [], kind="measured", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not results_io.Target("x", float("nan"), "<=", 1.0).reached


@pytest.mark.parametrize(("value", "code", "word"), [(0.5, 0, "reached"), (1.5, 1, "MISSED")])
def test_status_exits_with_1_when_one_is_missed(tmp_path, capsys, value, code, word):
    results_io.write_result("a", {}, [results_io.Target("fine", 1.0, "<=", 1.0)], kind="measured", folder=tmp_path)
    results_io.write_result("b", {}, [results_io.Target("loss", value, "<=", 1.0)], kind="measured", folder=tmp_path)
    assert status.main(tmp_path) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == [word, "b", "loss"]
    assert lines[-1] == f"{2 - code} of 2 targets reached"


def test_what_goes_beyond_is_shown_and_decides_nothing(tmp_path, capsys):
    targets = [results_io.Target("asked", 1.0, "<=", 1.0), results_io.Target("stricter", 1.5, "<=", 1.0, beyond=True)]
    path = results_io.write_result("a", {}, targets, kind="measured", folder=tmp_path)
    assert [target.get("beyond") for target in json.loads(path.read_text())["targets"]] == [None, True]
    assert status.main(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0].split()[:3], lines[3].split()[:3]] == [["MISSED", "a", "stricter"], ["reached", "a", "asked"]]
    assert lines[1] == "0 of 1 lines beyond what was asked for reached"
    results_io.write_result("a", {}, targets[1:], kind="measured", folder=tmp_path)
    assert status.main(tmp_path) == 1


def test_no_target_at_all_is_a_miss(tmp_path):
    assert status.main(tmp_path) == 1


def test_a_result_that_contradicts_itself_is_not_believed(tmp_path):
    target = {"name": "x", "value": 2.0, "op": "<=", "limit": 1.0, "reached": True}
    (tmp_path / "a.json").write_text(json.dumps({"targets": [target]}))
    with pytest.raises(SystemExit, match=r"a\.json: x says reached True"):
        status.main(tmp_path)
