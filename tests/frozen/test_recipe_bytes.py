"""Every shipped recipe, and a pass of every kind, gives the bytes that it gave when ``models/`` was written.

A processor that sums in another order cannot give the same bytes; there the structure, the keys of every decision and
nearly all bits of the codes have to be the same.
"""

from __future__ import annotations

import copy

import hashpress as hp
import pytest
from frozen_arithmetic import arithmetic
from frozen_cases import EPOCHS, RECIPES, RUNS, STARTS, STEPS, shortened
from frozen_files import changes, committed, compressed, expected, file_record, same_arithmetic, share_of


def cases(table):
    return [pytest.param(name, marks=pytest.mark.slow if case.slow else ()) for name, case in table.items()]


@pytest.mark.parametrize("name", cases(RUNS))
def test_a_run_gives_the_recorded_bytes_and_ledger(name, tmp_path):
    out = tmp_path / f"{name}.safetensors"
    ledger = compressed(RUNS[name], out)
    found, wanted = file_record(out) | {"ledger": ledger}, expected()["files"][name]
    assert changes(found, wanted, share_of(name), exact=same_arithmetic()) == []


@pytest.mark.parametrize("name", cases(STARTS))
def test_training_gives_the_recorded_bytes(name, tmp_path):
    hp.save(STARTS[name].trained(), tmp_path / "trained.safetensors")
    found, wanted = file_record(tmp_path / "trained.safetensors"), expected()["files"][name]
    assert changes(found, wanted, share_of(name), exact=same_arithmetic()) == []


def test_every_shipped_recipe_and_every_kind_of_pass_is_frozen():
    assert sorted(RECIPES) == hp.named_recipes()
    passes = {entry["name"] for case in RUNS.values() for entry in case.plan().entries}
    assert passes == set(hp.PASSES)


def test_every_kind_of_edit_is_frozen():
    edits = [edit for record in expected()["files"].values() for edit in record["edits"]]
    kinds = {"folded", "pruned", "shared", "narrowed", "repadded", "factored", "hashed", "fastfood", "pq", "int8"}
    assert {edit["kind"] for edit in edits} == kinds
    forms = {edit["form"] for edit in edits if edit["kind"] == "factored"}
    assert forms == {"cp3", "cp4", "tucker2", "lowrank", "lowrank3d"}


def test_recipes_are_shortened_where_they_train_and_nowhere_else():
    entry = {"name": "share", "bits": 60, "finetune": {"epochs": 7, "lr": 0.1}}
    assert shortened(entry) == {"name": "share", "bits": 60, "finetune": {"epochs": EPOCHS, "lr": 0.1}}
    assert shortened({"name": "finetune", "epochs": 1, "steps": 6000}) == {
        "name": "finetune",
        "epochs": 1,
        "steps": STEPS,
    }
    assert shortened({"name": "int8", "steps": 6000})["steps"] == 6000


def flipped(record, count):
    """Return the record with ``count`` bits of its codes changed."""
    codes = bytearray.fromhex(record["codes"])
    for place in range(count):
        codes[place] ^= 1
    return record | {"codes": codes.hex()}


def test_where_arithmetic_is_the_same_nothing_may_differ():
    wanted = expected()["files"]["int8-alone"]
    assert changes(copy.deepcopy(wanted), wanted, 0.01, exact=True) == []
    for other in (wanted | {"sha256": "0"}, wanted | {"ledger": wanted["ledger"][:1]}, flipped(wanted, 1)):
        assert len(changes(other, wanted, 0.01, exact=True)) == 1


def test_elsewhere_structure_keys_and_most_bits_count():
    wanted = expected()["files"]["int8-alone"]
    number = copy.deepcopy(wanted)
    number["ledger"][-1]["figures"]["flips"] = 0.123
    number["edits"][0]["scale"] *= 1.01
    assert changes(number | {"sha256": "0"}, wanted, 0.01, exact=False) == []
    assert changes(flipped(wanted, 24), wanted, 0.01, exact=False) == []
    assert changes(flipped(wanted, 25), wanted, 0.01, exact=False) != []
    key, zero = copy.deepcopy(wanted), copy.deepcopy(wanted)
    key["ledger"][1]["decision"]["other"] = 1
    zero["edits"][0]["zero"] += 1
    for other in (key, zero, wanted | {"tensors": {}}, wanted | {"arch": {}}):
        assert len(changes(other, wanted, 0.01, exact=False)) == 1


def test_the_fingerprint_of_arithmetic_stays_within_a_process():
    first = arithmetic()
    arithmetic.cache_clear()
    assert arithmetic() == first
    assert len(first) == 64
    assert committed("int8-alone").is_file()
