"""Schedules against their formulas, augmentation against loops."""

import math

import numpy as np
import pytest
import torch
from hashpress.compress.passes import Finetune
from hashpress.core.errors import InputError
from hashpress.hashnets.training.augment import AUGMENTATIONS, affine, crop, flip
from hashpress.hashnets.training.schedule import Schedule


def test_rates():
    cosine = Schedule(warmup=0.1)
    assert [cosine.rate(step, 100) for step in (0, 9, 10, 55, 99)] == pytest.approx(
        [1 / 11, 10 / 11, 1, 0.5, 0.5 * (1 + math.cos(math.pi * 89 / 90))]
    )
    step = Schedule(decay="step", warmup=0)
    assert [step.rate(at, 100) for at in (0, 49, 50, 74, 75, 99)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert Schedule(decay="constant", warmup=0).rate(99, 100) == 1
    assert Schedule.from_json(step.to_json()) == step


def test_flip_mirrors_some_images_and_changes_nothing_else():
    pixels = torch.randint(256, (200, 3, 5, 7), dtype=torch.uint8)
    result = flip(pixels, torch.Generator().manual_seed(0))
    mirrored = (result == pixels.flip(3)).flatten(1).all(1)
    assert torch.equal(result[~mirrored], pixels[~mirrored])
    assert 70 < mirrored.sum() < 130


def test_crop_shifts_against_a_loop():
    pixels = torch.randint(1, 256, (40, 2, 6, 9), dtype=torch.uint8)
    result = crop(pixels, torch.Generator().manual_seed(0), margin=3)
    top, left = torch.randint(7, (2, 40), generator=torch.Generator().manual_seed(0)).tolist()
    for item in range(40):
        frame = np.zeros((2, 12, 15), np.uint8)
        frame[:, 3:9, 3:12] = pixels[item].numpy()
        expected = frame[:, top[item] : top[item] + 6, left[item] : left[item] + 9]
        np.testing.assert_array_equal(result[item].numpy(), expected)
    assert len(set(zip(top, left, strict=True))) > 20


def test_affine_moves_every_point_as_it_says_against_a_loop():
    pixels = torch.randint(256, (6, 2, 9, 12), dtype=torch.uint8)
    result = affine(pixels, torch.Generator().manual_seed(0)).numpy()
    draws = (2 * torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) - 1).numpy()
    framed = np.pad(pixels.numpy().astype(float), ((0, 0), (0, 0), (30, 30), (30, 30)))
    for item, (angle, scale, shear, down, right) in enumerate(draws.T):
        turn = np.radians(15) * angle
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, 0.15 * shear], [0, 1]]
        for row, column in np.ndindex(9, 12):
            x, y = (1 + 0.15 * scale) * matrix @ [column - 5.5, row - 4] + [5.5 + 2 * right, 4 + 2 * down]
            left, top = math.floor(x), math.floor(y)
            box = framed[item, :, top + 30 : top + 32, left + 30 : left + 32]
            expected = np.array([1 - (y - top), y - top]) @ box @ np.array([1 - (x - left), x - left])
            np.testing.assert_allclose(result[item, :, row, column], expected, atol=0.51)
    assert np.abs(draws).max() > 0.9


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_keeps_type_shape_and_seed(name):
    pixels = torch.randint(256, (10, 1, 8, 8), dtype=torch.uint8)
    before = pixels.clone()
    first, again = (AUGMENTATIONS[name](pixels, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (first.dtype, first.shape) == (torch.uint8, pixels.shape)
    assert torch.equal(first, again)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": 0}, "lr must be positive, got 0"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"lr": math.inf}, "lr must be positive"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"warmup": -0.1}, "warmup must be in"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"decay": "cosin"}, "did you mean 'cosine'"),
        ({"augment": "flip-corp"}, "did you mean 'flip-crop'"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"epoch": 3}, "did you mean 'epochs'"),
    ],
)
def test_bad_schedules(settings, words):
    with pytest.raises(InputError, match=words):
        Schedule.from_json(settings)


def test_finetune_takes_at_least_so_many_steps() -> None:
    for images, epochs in ((256, 50), (10_000, 5), (100, 100)):  # 2, 79 and 1 steps an epoch
        schedule = Finetune(epochs=5, steps=100, batch=128).schedule(images)
        assert schedule.epochs == epochs
        assert schedule.epochs * math.ceil(images / 128) >= 100
    assert Finetune(epochs=0, steps=100).schedule(256).epochs == 0, "nothing is trained where nothing was asked for"
    assert Finetune(epochs=5).schedule(256).epochs == 5
