"""Specs as people write them, the embedded digits, limits, sizes, and the protocols."""

from __future__ import annotations

import numpy as np
import pytest
from hashpress.core.data import DATASETS, load_data, parse_spec
from hashpress.core.data.images import Images, Split
from hashpress.core.data.protocols import divide
from hashpress.core.data.source import Parts, shuffled, stratified
from hashpress.core.errors import DataError
from hashpress.core.inputs import ImageInput
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits


def parts(per_class: tuple[int, ...], test: tuple[int, ...] | None = None) -> Parts:
    """Every image is one pixel pair that says which it is."""

    def images(sizes: tuple[int, ...], first: int) -> Images:
        labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
        numbers = np.arange(first, first + len(labels), dtype=">u4")
        order = shuffled(len(labels))
        return Images(numbers.view(np.uint8).reshape(-1, 1, 2, 2)[order], labels[order])

    return Parts(
        images(per_class, 0),
        None if test is None else images(test, sum(per_class)),
        tuple(f"class{i}" for i in range(len(per_class))),
    )


def numbers(images: Images) -> set[int]:
    return set(np.ascontiguousarray(images.pixels).reshape(-1, 4).view(">u4").ravel().tolist())


def test_digits_are_scikit_learns():
    split = load_data("digits")
    bunch = load_digits()
    whole = np.concatenate([split.train.pixels, split.queries.pixels])
    labels = np.concatenate([split.train.labels, split.queries.labels])
    ours = sorted((int(label), image.tobytes()) for label, image in zip(labels, whole[:, 0], strict=True))
    theirs = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    assert ours == sorted((int(t), image.tobytes()) for t, image in zip(bunch.target, theirs, strict=True))
    assert split.classes == tuple("0123456789")
    assert split.train is split.database
    assert "1/5" in split.protocol


def test_mean_and_std_are_numpys():
    split = load_data("digits")
    scaled = split.train.pixels / 255
    assert split.mean == pytest.approx([scaled.mean()], abs=1e-12)
    assert split.std == pytest.approx([scaled.std()], abs=1e-9)


def test_a_constant_channel_has_std_one():
    images = Images(np.full((4, 2, 3, 3), 7, np.uint8), np.array([0, 1, 0, 1]))
    split = Split("x", "B", images, images, images, ("a", "b"))
    assert split.mean == pytest.approx((7 / 255, 7 / 255))
    assert split.std == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("nothing:/tmp", "there are: digits, mnist"),
        ("digits:/tmp", "takes no path"),
        ("digits?sise=3", "did you mean 'size'"),
        ("digits?", None),
        ("digits?size=0", "whole number from 1 on"),
        ("digits?size=-1", "whole number from 1 on"),
        ("digits?size=²", "whole number from 1 on"),
        ("digits?limit=many", "whole number from 1 on"),
        ("digits?gray=maybe", "gray=1 or gray=0"),
        ("digits?seed=-1", "whole number from 0 on"),
        ("mnist", "write mnist:PATH"),
        ("mnist:/no/such/folder", "does not exist"),
        ("cifar10:/no/such/file.tar", "does not exist"),
        ("imagefolder:/no/such/folder?size=32", "does not exist"),
        ("imagefolder:bad\0name", "cannot look|does not exist"),
    ],
)
def test_specs_that_cannot_be_read_say_why(text, words):
    if words is None:
        assert len(load_data(text).train) > 0
        return
    with pytest.raises(DataError, match=words) as caught:
        load_data(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_spec_is_parsed_into_its_parts():
    spec = parse_spec("imagefolder:/data/a:b?size=64&limit=10&gray=1")
    assert (spec.kind, str(spec.path), spec.size, spec.limit, spec.gray) == ("imagefolder", "/data/a:b", 64, 10, True)
    assert parse_spec("digits").path is None


def test_every_source_is_described_in_one_line():
    for name, source in DATASETS.items():
        assert source.about, name
        assert "\n" not in source.about


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(DataError, match="there are: A, A-excl, B"):
        load_data("digits", protocol="C")


def test_size_and_limit_of_an_array_source():
    split = load_data("digits?size=16&limit=100")
    assert split.train.pixels.shape[1:] == (1, 16, 16)
    assert len(split.train) + len(split.queries) == 100


def test_digest_follows_the_content():
    assert load_data("digits").digest == load_data("digits").digest
    assert load_data("digits?seed=1").digest != load_data("digits").digest
    assert load_data("digits?limit=100").digest != load_data("digits").digest


def test_the_seed_of_a_spec_draws_the_queries_and_zero_is_the_one_that_is_not_written():
    assert load_data("digits?seed=0").digest == load_data("digits").digest
    first, second = load_data("digits"), load_data("digits?seed=7")
    asked = {image.tobytes() for image in second.queries.pixels}
    known = {image.tobytes() for image in first.database.pixels}
    assert len(asked & known) > len(asked) / 2, "queries of one seed lie in the database of another"
    assert "seed 7" in second.protocol


def test_protocol_a_has_the_published_sizes():
    source = parts((5000,) * 10, (1000,) * 10)
    split = divide(source, "x", "A", 0)
    assert (len(split.queries), len(split.train), len(split.database)) == (1000, 5000, 59000)
    assert np.bincount(split.queries.labels).tolist() == [100] * 10
    assert np.bincount(split.train.labels).tolist() == [500] * 10
    assert numbers(split.train) <= numbers(split.database)
    assert numbers(split.queries).isdisjoint(numbers(split.database))
    assert numbers(split.queries) | numbers(split.database) == set(range(60000))
    exclusive = divide(source, "x", "A-excl", 0)
    assert len(exclusive.database) == 54000
    assert numbers(exclusive.train).isdisjoint(numbers(exclusive.database))
    assert numbers(exclusive.queries) == numbers(split.queries)


def test_protocol_b_with_a_test_part_copies_nothing():
    source = parts((30, 20), (5, 5))
    split = divide(source, "x", "B", 3)
    assert split.train is split.database is source.train
    assert split.queries is source.test
    assert split.protocol == "B"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 60), min_size=2, max_size=5),
    st.sampled_from(["A", "A-excl", "B"]),
    st.integers(0, 3),
)
def test_every_protocol_divides_without_leaks(sizes, protocol, seed):
    source = parts(tuple(sizes))
    try:
        split = divide(source, "x", protocol, seed)
    except DataError:
        assert protocol == "A-excl"  # tiny classes are used up
        assert max(sizes) < 12
        return
    queries, train, database = (numbers(i) for i in (split.queries, split.train, split.database))
    assert queries.isdisjoint(train | database)
    assert queries | train | database == set(range(sum(sizes)))
    assert (train <= database) == (protocol != "A-excl")
    for images in (split.queries, split.train):
        assert set(images.labels.tolist()) == set(range(len(sizes)))
    again = divide(source, "x", protocol, seed)
    assert again.digest == split.digest


def test_class_order_does_not_leak():
    for protocol in ("A", "B"):
        split = divide(parts((600, 600, 600)), "x", protocol, 0)
        for images in (split.queries, split.train, split.database):
            first, rest = np.array_split(images.labels, 2)
            assert abs(first.mean() - rest.mean()) < 0.3
            assert len(set(images.labels[:20].tolist())) == 3


def test_a_class_too_small_to_divide_is_named():
    with pytest.raises(DataError, match="class1 has 1 images"):
        divide(parts((5, 1)), "x", "B", 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 200))
def test_stratified_keeps_proportions(labels, limit):
    labels = np.array(labels)
    chosen = stratified(labels, limit, 0)
    assert len(chosen) == min(limit, len(labels))
    assert (np.diff(chosen) > 0).all()
    for label in np.unique(labels):
        share = (labels == label).mean() * len(chosen)
        assert abs((labels[chosen] == label).sum() - share) <= 2


def test_stratified_is_exact_where_it_can_be():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [400, 200, 100, 100]))
    assert np.bincount(labels[stratified(labels, 80, 0)]).tolist() == [40, 20, 10, 10]
    assert (stratified(labels, 80, 0) == stratified(labels, 80, 0)).all()
    assert (stratified(labels, 80, 0) != stratified(labels, 80, 1)).any()


def test_images_refuse_other_types_and_lengths():
    good, labels = np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int64)
    assert len(Images(good, labels)) == 2
    for pixels, marks in ((good.astype(np.float32), labels), (good[0], labels), (good, labels[:1])):
        with pytest.raises(DataError, match=r"labels|uint8"):
            Images(pixels, marks)
    with pytest.raises(DataError, match="int64"):
        Images(good, labels.astype(np.int32))


def test_the_input_of_a_data_set_has_mean_zero_and_deviation_one():
    split = load_data("digits?size=16&limit=300")
    spec = ImageInput.of(split)
    assert spec.shape == (1, 16, 16)
    numbers = spec.normalise(split.train.pixels[:])
    assert abs(float(numbers.mean())) < 1e-4
    assert abs(float(numbers.std()) - 1) < 1e-3
