"""Finished steps: a corrected recipe goes on from those before the first correction; what cannot be read is made anew."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hashpress.compress.passes import Finetune, Int8, Prune, Share
from hashpress.compress.recipe.load import Recipe, compress
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile.encoded import EncodedModel
from hashpress.modelfile.file import load, save

GOOD = (Prune(density=0.4), Finetune(epochs=1, lr=0.01), Share(bits=3), Int8(images=30))
DIVERGES = Finetune(epochs=1, lr=1e30)


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=200")


@pytest.fixture(scope="module")
def model(split: Split) -> HashModel:
    return untrained(default_arch("lenet300", 10, ImageInput.of(split), widths=(30, 20)), seed=3)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which passes did their work, in order."""
    done: list[str] = []
    for kind in (Prune, Finetune, Share, Int8):

        def call(self: Any, *args: Any, real: Any = kind.execute, **kwargs: Any) -> Any:
            result = real(self, *args, **kwargs)
            done.append(type(self).__name__)
            return result

        monkeypatch.setattr(kind, "execute", call)
    return done


def broken_off(model: HashModel, split: Split, out: Path, *passes: Any) -> Path:
    """Run ``passes`` and a last one that fails; return the folder of finished steps."""
    with pytest.raises(InputError, match="training diverged"):
        compress(model, Recipe.of(*passes, DIVERGES), split, out=out)
    return out.with_name(f"{out.name}.work")


def whole(model: HashModel, split: Split, tmp_path: Path, *passes: Any) -> bytes:
    compress(model, Recipe.of(*passes), split, out=tmp_path / "whole.st")
    return (tmp_path / "whole.st").read_bytes()


def test_a_corrected_recipe_goes_on_from_the_steps_before_the_correction(model, split, tmp_path, ran):
    wanted = whole(model, split, tmp_path, *GOOD)
    broken_off(model, split, tmp_path / "out.st", *GOOD[:2])
    ran.clear()
    compress(model, Recipe.of(*GOOD, about="corrected"), split, out=tmp_path / "out.st", resume=True)
    assert ran == ["Share", "Int8"]
    assert (tmp_path / "out.st").read_bytes() == wanted
    assert (tmp_path / "out.st.ledger.json").read_bytes() == (tmp_path / "whole.st.ledger.json").read_bytes()
    assert not (tmp_path / "out.st.work").exists()


def test_a_step_that_changed_is_done_again_with_all_behind_it(model, split, tmp_path, ran):
    changed = (GOOD[0], Finetune(epochs=1, lr=0.02), GOOD[2])
    wanted = whole(model, split, tmp_path, *changed)
    broken_off(model, split, tmp_path / "out.st", *GOOD[:3])
    ran.clear()
    compress(model, Recipe.of(*changed), split, out=tmp_path / "out.st", resume=True)
    assert ran == ["Finetune", "Share"], "the same sharing of other weights is another step"
    assert (tmp_path / "out.st").read_bytes() == wanted


def test_another_recipe_tried_by_mistake_costs_only_the_steps_that_it_wrote_over(model, split, tmp_path, ran):
    wanted = whole(model, split, tmp_path, *GOOD[:3])
    broken_off(model, split, tmp_path / "out.st", *GOOD[:3])
    with pytest.raises(InputError, match=r"step 2 \(finetune\): training diverged"):
        compress(model, Recipe.of(GOOD[0], DIVERGES), split, out=tmp_path / "out.st", resume=True)
    ran.clear()
    compress(model, Recipe.of(*GOOD[:3]), split, out=tmp_path / "out.st", resume=True)
    assert ran == []
    assert (tmp_path / "out.st").read_bytes() == wanted


def test_a_kill_between_the_two_files_of_a_step_does_not_mix_two_recipes(model, split, tmp_path, ran, monkeypatch):
    other = (GOOD[0], Finetune(epochs=1, lr=0.02))
    wanted = whole(model, split, tmp_path, *GOOD[:2])
    broken_off(model, split, tmp_path / "out.st", *GOOD[:2])

    def killed(encoded: EncodedModel, path: Path, write: Any = EncodedModel.write) -> None:
        write(encoded, path)
        if path.name.startswith("step02"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EncodedModel, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            compress(model, Recipe.of(*other), split, out=tmp_path / "out.st", resume=True)
    compress(model, Recipe.of(*GOOD[:2]), split, out=tmp_path / "out.st", resume=True)
    assert (tmp_path / "out.st").read_bytes() == wanted


@pytest.mark.parametrize("other", [{"measure": ("flips", "map")}, {"seed": 3}, {"data": "digits?limit=199"}])
def test_steps_of_another_run_are_refused(model, split, tmp_path, other):
    broken_off(model, split, tmp_path / "out.st", GOOD[0])
    recipe = Recipe.of(*GOOD[:2], measure=other.get("measure", ("flips",)))
    data = load_data(other["data"]) if "data" in other else split
    with pytest.raises(InputError, match=f"to a run with another {next(iter(other))};"):
        compress(model, recipe, data, out=tmp_path / "out.st", resume=True, seed=other.get("seed", 0))


def garbage(kind: str) -> bytes:
    return {
        "text": b"no JSON",
        "empty": b"",
        "list": b"[]",
        "number": b"3",
        "line": b'{"prefix": 1}',
        "bytes": b"\xff",
    }[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "list", "number", "line", "bytes"])
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_step_that_cannot_be_read_is_done_again(model, split, tmp_path, ran, kind, suffix):
    wanted = whole(model, split, tmp_path, *GOOD[:2])
    work = broken_off(model, split, tmp_path / "out.st", *GOOD[:2])
    (work / f"step02.{suffix}").write_bytes(garbage(kind))
    ran.clear()
    compress(model, Recipe.of(*GOOD[:2]), split, out=tmp_path / "out.st", resume=True)
    assert ran == ["Finetune"]
    assert (tmp_path / "out.st").read_bytes() == wanted


def test_a_line_with_other_fields_is_done_again(model, split, tmp_path, ran):
    work = broken_off(model, split, tmp_path / "out.st", *GOOD[:2])
    about = json.loads((work / "step02.json").read_text())
    (work / "step02.json").write_text(json.dumps({**about, "line": {"steps": 2}}))
    ran.clear()
    compress(model, Recipe.of(*GOOD[:2]), split, out=tmp_path / "out.st", resume=True)
    assert ran == ["Finetune"]


def test_code_that_a_kept_file_names_is_not_run(model, split, tmp_path, ran, monkeypatch):
    """Somebody put a model file of an encoder of their own in the place of a finished step."""
    (tmp_path / "sneaky.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nPath('ran').write_text('')\n"
        "def encoder(shape):\n    return nn.Flatten()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    work = broken_off(model, split, tmp_path / "out.st", *GOOD[:2])
    save(
        untrained(replace(model.arch, encoder="sneaky:encoder", options={}), trust_code=True),
        work / "step02.safetensors",
    )
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    monkeypatch.delitem(sys.modules, "sneaky")
    compress(model, Recipe.of(*GOOD[:2]), split, out=tmp_path / "out.st", resume=True)
    assert not (tmp_path / "ran").exists()
    assert load(tmp_path / "out.st").arch == model.arch


def test_a_recipe_that_is_refused_leaves_finished_steps_alone(model, split, tmp_path):
    work = broken_off(model, split, tmp_path / "out.st", *GOOD[:2])
    before = sorted(path.name for path in work.iterdir())
    for resume in (False, True):
        with pytest.raises(InputError, match="no layer matches"):
            compress(model, Recipe.of(*GOOD[:2], Share(skip=("typo",))), split, out=tmp_path / "out.st", resume=resume)
    assert sorted(path.name for path in work.iterdir()) == before
    shutil.rmtree(work)
