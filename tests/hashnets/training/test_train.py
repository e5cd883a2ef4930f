"""The loop: seeds and resumption to the byte, optimizers against their formulas, bad input."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hashpress.core.data import Images, load_data
from hashpress.core.errors import CheckpointError, DataError, InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.core.progress import reporting
from hashpress.hashnets import heads
from hashpress.hashnets.build import build, default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.retrieval.evaluate import error_rate
from hashpress.hashnets.systems import SYSTEMS
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import fit, train
from torch import nn

SPEC = ImageInput((1, 8, 8), (0.3,), (0.37,))
QUICK = Schedule(epochs=3, batch=32, lr=0.02, augment="shift")


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(np.arange(150))


def fitted(images, schedule=QUICK, *, system="dlbhc", encoder="smallconv", seed=0, bits=10, **more):
    arch = default_arch(encoder, bits, SPEC)
    net = build(arch, seed=seed)
    objective = SYSTEMS[system](arch, 10, len(images), seed)
    log = fit(net, objective, images, SPEC, schedule, seed=seed, **more)
    return net.state_dict(), log


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first | second)


class KilledError(Exception):
    pass


def stop_in(epoch, step):
    """Raise when ``step`` of ``epoch`` is done, as a kill in the middle of training would."""

    def report(what, done, total):
        if what.startswith(f"epoch {epoch}/") and done == step:
            raise KilledError

    return report


WHOLE = [name for name, system in SYSTEMS.items() if not system.on_features]  # systems that train the whole network


@pytest.mark.parametrize(
    ("system", "optimizer"), [*((name, "sgd") for name in WHOLE), ("dpsh", "adam"), ("dlbhc", "adam")]
)
def test_resumed_run_ends_in_the_bytes_of_an_undisturbed_one(few, tmp_path, system, optimizer):
    schedule = replace(QUICK, optimizer=optimizer, lr=0.005)
    expected, log = fitted(few, schedule, system=system)
    state = tmp_path / "state"
    for epoch in (1, 2, 3):  # killed once in every epoch
        with pytest.raises(KilledError), reporting(stop_in(epoch, 2)):
            fitted(few, schedule, system=system, checkpoint=state)
        assert state.exists() == (epoch > 1)
    found, resumed_log = fitted(few, schedule, system=system, checkpoint=state)
    assert same(found, expected)
    assert [entry["loss"] for entry in resumed_log] == [entry["loss"] for entry in log]
    finished, _ = fitted(few, schedule, system=system, checkpoint=state)
    assert same(finished, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_a_run_with_other_settings_does_not_go_on(few, tmp_path):
    arch = default_arch("lenet300", 10, SPEC)
    for eta, fault in ((0.1, KilledError), (0.2, CheckpointError), (0.1, KilledError)):
        objective = SYSTEMS["dpsh"](arch, 10, len(few), 0, eta=eta)
        with pytest.raises(fault), reporting(stop_in(2, 1)):
            fit(build(arch), objective, few, SPEC, QUICK, checkpoint=tmp_path / "state")


def test_resumption_covers_batch_norm_and_dropout(few, tmp_path):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5))
            self.head = nn.Linear(144, 10)

        def forward(self, images):
            return self.head(self.encoder(images))

    arch = default_arch("lenet300", 10, SPEC)
    torch.manual_seed(0)
    start = Dropping()

    def run(net, checkpoint=None):
        fit(net, SYSTEMS["onehot"](arch, 10, len(few), 0), few, SPEC, QUICK, checkpoint=checkpoint)
        return net.state_dict()

    expected = run(copy.deepcopy(start))
    with pytest.raises(KilledError), reporting(stop_in(2, 1)):
        run(copy.deepcopy(start), tmp_path / "state")
    torch.rand(7)  # the global generator's state must not matter
    assert same(run(copy.deepcopy(start), tmp_path / "state"), expected)


def test_seed_decides_everything_and_leaves_the_global_generator_alone(few):
    before = torch.get_rng_state()
    first, _ = fitted(few)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, _ = fitted(few)
    other, _ = fitted(few, seed=1)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize(
    "change", [{"lr": 0.03}, {"epochs": 4}, {"augment": "none"}, {"batch": 16}, {"precision": "bfloat16"}]
)
def test_checkpoint_of_another_schedule_is_refused(few, tmp_path, change):
    short = replace(QUICK, epochs=1)
    fitted(few, short, checkpoint=tmp_path / "state")
    with pytest.raises(CheckpointError, match="another network, system, schedule, seed or data set"):
        fitted(few, replace(short, **change), checkpoint=tmp_path / "state")


def test_checkpoint_of_another_run_or_damaged_is_refused(few, digits, tmp_path):
    state, short = tmp_path / "state", replace(QUICK, epochs=1)
    fitted(few, short, checkpoint=state)
    whole = state.read_bytes()
    for images, more in (
        (few, {"seed": 1}),
        (few, {"system": "onehot"}),
        (few, {"encoder": "lenet300"}),
        (digits.train.take(np.arange(1, 151)), {}),
    ):
        with pytest.raises(CheckpointError, match="another network"):
            fitted(images, short, checkpoint=state, **more)
    for damage in (b"", whole[:100], whole[:-1], b"x" * 200):
        state.write_bytes(damage)
        with pytest.raises(CheckpointError, match="delete it to start anew"):
            fitted(few, short, checkpoint=state)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, images):
        return self.head(images.flatten(1))


class Target(nn.Module):
    """Half the squared distance from 1, so that the gradient is the difference."""

    def __init__(self):
        super().__init__()
        self.ends = 0
        self.seen = []

    def prepare(self, net, items):
        """Need nothing."""

    def forward(self, given, batch):
        self.seen.append(batch.index)
        return 0.5 * (given - 1).square().sum(1).mean()

    def end_epoch(self):
        self.ends += 1


def test_sgd_follows_its_formula(few):
    """Nesterov momentum, decay on matrices only, warm-up and cosine, in numpy."""
    schedule = Schedule(epochs=2, batch=150, lr=0.01, weight_decay=0.1, warmup=0.5, clip=0, head_lr=2.0)
    net, objective = Linear(), Target()
    weight, bias = (value.detach().numpy().astype(float) for value in net.head.parameters())
    x = SPEC.normalise(few.pixels).flatten(1).numpy().astype(float)
    speeds = [np.zeros_like(weight), np.zeros_like(bias)]
    for factor in (0.5, 1.0):  # one step of warm-up: 1/2; then the cosine's first value
        difference = (x @ weight.T + bias - 1) / len(x)
        gradients = [difference.T @ x + 0.1 * weight, difference.sum(0)]
        speeds = [0.9 * speed + gradient for speed, gradient in zip(speeds, gradients, strict=True)]
        weight, bias = (
            value - 0.02 * factor * (gradient + 0.9 * speed)
            for value, gradient, speed in zip((weight, bias), gradients, speeds, strict=True)
        )
    fit(net, objective, few, SPEC, schedule)
    np.testing.assert_allclose(net.head.weight.detach().numpy(), weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.head.bias.detach().numpy(), bias, rtol=1e-4, atol=1e-6)


def test_every_image_is_seen_once_an_epoch_in_batches_of_like_size(few):
    objective, steps = Target(), []
    fit(Linear(), objective, few, SPEC, Schedule(epochs=2, batch=64), after_step=lambda: steps.append(1))
    assert [len(index) for index in objective.seen] == [50] * 6
    epochs = torch.cat(objective.seen).view(2, 150)
    assert all(sorted(epoch.tolist()) == list(range(150)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert (objective.ends, len(steps)) == (2, 6)


def test_clipping_bounds_the_first_step(few):
    net, start = Linear(), None
    start = copy.deepcopy(net)
    fit(
        net, Target(), few, SPEC, Schedule(epochs=1, batch=150, lr=0.5, clip=0.01, momentum=0, weight_decay=0, warmup=0)
    )
    moved = sum((new - old).square().sum() for new, old in zip(net.parameters(), start.parameters(), strict=True))
    assert math.sqrt(moved.item()) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_after_step_holds_a_mask(few):
    net = Linear()
    mask = torch.rand(3, 64) < 0.5
    fit(net, Target(), few, SPEC, QUICK, after_step=lambda: net.head.weight.data.mul_(mask))
    assert not net.head.weight[~mask].any()
    assert net.head.weight[mask].all()


def test_spread_head_has_mean_nought_and_deviation_one():
    for encoder in ("lenet300", "resnet20"):
        net = build(default_arch(encoder, 12, SPEC))
        before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
        images = torch.randn(64, 1, 8, 8)
        heads.standardize(net, net.head, images)
        assert same(before, net.encoder.state_dict())
        given = net.train()(images).detach().numpy()
        np.testing.assert_allclose(given.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(given.std(0, ddof=1), 1, rtol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_digits_are_learned_as_classes(digits, precision):
    arch = default_arch("lenet300", 10, SPEC)
    start = untrained(arch)
    schedule = Schedule(epochs=12, batch=32, lr=0.02, precision=precision)
    before = copy.deepcopy(start.net.state_dict())
    model = train(start, digits, "onehot", schedule, seed=3)
    assert same(start.net.state_dict(), before)
    assert error_rate(model, digits.queries) <= 0.03
    assert not model.net.training
    assert all(value.is_contiguous() and value.dtype == torch.float32 for value in model.net.parameters())
    (step,) = model.history
    assert (step.name, step.seed, step.settings["system"]) == ("train", 3, "onehot")
    assert step.settings["digest"] == digits.digest


@pytest.mark.parametrize("system", ["dpsh", pytest.param("dlbhc", marks=pytest.mark.slow)])
def test_digits_are_learned_as_codes(digits, system):
    """From scratch, without batch norm; nearest neighbours by brute force."""
    arch = default_arch("smallconv", 16, SPEC)
    schedule = Schedule(epochs=25, batch=32, lr=0.002, optimizer="adam")
    model = train(untrained(arch), digits, system, schedule)
    queries, database = (outputs(model, part.pixels) >= 0 for part in (digits.queries, digits.database))
    nearest = (queries[:, None] != database[None]).sum(2).argmin(1)
    assert (digits.database.labels[nearest] == digits.queries.labels).mean() >= 0.95


def test_error_rate_counts():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 2.0, 1.0]).expand(len(images), 3)

    model = HashModel(Constant(), default_arch("lenet300", 3, SPEC))
    images = Images(np.zeros((5, 1, 8, 8), np.uint8), np.array([1, 1, 0, 2, 1]))
    assert error_rate(model, images) == pytest.approx(0.4)


def test_divergence_is_said_with_epoch_and_step(few):
    with pytest.raises(InputError, match=r"diverged: the loss is (nan|inf) at step \d+ of epoch \d"):
        fitted(few, Schedule(epochs=3, batch=32, lr=1e18, clip=0, warmup=0))


def test_what_cannot_be_trained(digits, few):
    arch = default_arch("lenet300", 10, SPEC)
    model = untrained(arch)
    with pytest.raises(InputError, match="did you mean 'dpsh'"):
        train(model, digits, "dphs", QUICK)
    with pytest.raises(InputError, match="'dlbhc' does not take these settings"):
        train(model, digits, "dlbhc", QUICK, settings={"eta": 1.0})
    with pytest.raises(DataError, match="at least two images, got 1"):
        fitted(few.take(slice(1)))
    with pytest.raises(InputError, match=r"\(1, 8, 8\), found uint8 of shape \(1, 9, 9\)"):
        fitted(Images(np.zeros((4, 1, 9, 9), np.uint8), np.zeros(4, np.int64)))
    frozen = Linear().requires_grad_(requires_grad=False)
    with pytest.raises(InputError, match="nothing to train"):
        fit(frozen, Target(), few, SPEC, QUICK)
