"""Inputs: raw items to tensors, and descriptions that come from anywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hashpress.core.data.images import Images, Split
from hashpress.core.data.texts import Texts
from hashpress.core.data.vectors import Vectors
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput, TextInput, VectorInput, input_from_json, input_of

INPUTS = [
    ImageInput((3, 4, 5), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    VectorInput(3, (1.0, 2.0, 3.0), (0.5, 1.0, 2.0)),
    VectorInput(2),
    TextInput("words", ("free", "software", "é"), 4),
]


def split(items):
    return Split("some", "B", items, items, items, ("a",))


@pytest.mark.parametrize("spec", INPUTS, ids=str)
def test_an_input_survives_json_and_has_an_example(spec):
    assert input_from_json(json.loads(json.dumps(spec.to_json()))) == spec
    example = spec.example(2)
    assert example.shape == (2, *spec.shape)
    with torch.device("meta"):
        assert spec.example().is_meta


def test_images_are_described_as_before_there_were_other_inputs():
    assert INPUTS[0].to_json() == {"shape": [3, 4, 5], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}


def test_vectors_are_normalised_by_the_training_part():
    values = np.random.default_rng(0).normal([5, 15, 7], [1, 3, 0], (50, 3))
    spec = input_of(split(Vectors(values.astype(np.float32), np.zeros(50, int))))
    found = spec.tensor(values).numpy()
    np.testing.assert_allclose(found[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found[:, :2].std(0), 1, atol=1e-5)
    np.testing.assert_allclose(found[:, 2], 0, atol=1e-5)  # a feature that never changes is not blown up
    assert torch.equal(VectorInput(3).tensor(np.array([[1, 2, 255]], np.uint8)), torch.tensor([[1.0, 2.0, 255.0]]))


def test_texts_become_token_ids_of_the_frequent_words():
    texts = np.array(["The cat, the CAT and a dog", "the dog's bowl: 3.5 l", "cat"], dtype=object)
    items = Texts(texts, np.zeros(3, int))
    spec = TextInput.of(split(items), length=6)
    assert spec.vocabulary == ("cat", "the")  # what occurs twice or more, by frequency, then by alphabet
    assert spec.tensor(texts).tolist() == [[3, 2, 3, 2, 1, 1], [3, 1, 1, 1, 1, 0], [2, 0, 0, 0, 0, 0]]
    assert spec.tensor(texts).dtype == torch.int64
    assert spec.encoder_options == {"vocabulary": 4}
    letters = TextInput("characters", (" ", "a"), 4)
    assert letters.tensor(np.array([" A\n\n bA"])).tolist() == [[3, 2, 1, 3]]


@pytest.mark.parametrize(
    ("items", "spec", "found"),
    [
        (np.zeros((2, 3, 4, 4), np.uint8), INPUTS[0], "uint8 images of shape"),
        (np.zeros((2, 4)), INPUTS[1], "vectors of 3 numbers"),
        (np.array([["a", "b", "c"]]), INPUTS[1], "vectors of 3 numbers"),
        (np.zeros((2, 4)), INPUTS[3], "takes texts"),
    ],
)
def test_items_of_another_kind_are_refused(items, spec, found):
    with pytest.raises(InputError, match=found):
        spec.tensor(items)


def test_an_input_of_another_kind_of_data_is_refused():
    images = split(Images(np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, int)))
    with pytest.raises(InputError, match="some holds images, not vectors"):
        VectorInput.of(images)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"kind": "sound"}, "unknown kind of input 'sound'"),
        ({"kind": 7}, "unknown kind of input '7'"),
        ({"kind": "vector", "size": 3}, "needs size, mean, std"),
        ({"kind": "vector", "size": 2**40, "mean": [], "std": []}, "positive number"),
        ({"kind": "vector", "size": True, "mean": [], "std": []}, "needs size, mean, std"),
        ({"kind": "vector", "size": 2, "mean": [1.0], "std": [1.0]}, "2 features"),
        ({"kind": "vector", "size": 1, "mean": [1.0], "std": [0.0]}, "above 0"),
        ({"kind": "vector", "size": 1, "mean": ["x"], "std": [1.0]}, "list of numbers"),
        ({"kind": "text", "tokeniser": "os.system", "vocabulary": ["a"], "length": 3}, "unknown tokeniser"),
        ({"kind": "text", "tokeniser": "words", "vocabulary": ["a", "a"], "length": 3}, "different tokens"),
        ({"kind": "text", "tokeniser": "words", "vocabulary": [1], "length": 3}, "list of texts"),
        ({"kind": "text", "tokeniser": "words", "vocabulary": ["a"], "length": 0}, "at most"),
        ({"shape": [1, 2, 3], "mean": [0.5], "std": [None]}, "must be numbers"),
        ({"shape": [1, 2, 3], "mean": [0.5]}, "needs shape, mean and std"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(value, found):
    with pytest.raises(InputError, match=found):
        input_from_json(value)
