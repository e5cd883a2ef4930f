"""Systems: losses and gradients against loops over all pairs in numpy; the code bank; relaxations."""

import math

import numpy as np
import pytest
import torch
from hashpress.core.data.images import Images
from hashpress.core.data.vectors import Vectors
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch
from hashpress.hashnets.losses.classes import one_hot_entropy
from hashpress.hashnets.losses.pair import pair_likelihood
from hashpress.hashnets.losses.quantisation import quantisation_l1, quantisation_l2
from hashpress.hashnets.systems import SYSTEMS
from hashpress.hashnets.systems.base import Batch
from hashpress.hashnets.systems.code_bank import CodeBank
from hashpress.hashnets.systems.relaxations import Identity, Sigmoid, Tanh

ITEMS, BITS, CLASSES = 13, 6, 3
ARCH = default_arch("lenet300", BITS, ImageInput((1, 4, 4), (0.0,), (1.0,)))


def batch(index, labels) -> Batch:
    return Batch(torch.as_tensor(index), torch.zeros(len(index), 1, 4, 4), torch.as_tensor(labels))


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, shape)).float()


def pairs_by_loop(outputs, labels, bank, bank_labels, eta, *, balance):
    """DPSH over every pair: the loss, and its gradient for the batch's rows with the bank held fixed."""
    count, bits = outputs.shape
    alike = sum(int(a == b) for a in labels for b in bank_labels)
    apart = len(labels) * len(bank_labels) - alike
    loss, gradient = 0.0, np.zeros_like(outputs)
    for i in range(count):
        for j in range(len(bank)):
            theta = 0.5 * float(outputs[i] @ bank[j])
            same = float(labels[i] == bank_labels[j])
            weight = (0.5 / alike if same else 0.5 / apart) if balance else 1 / (count * len(bank))
            loss += weight * (math.log1p(math.exp(-abs(theta))) + max(theta, 0) - same * theta)
            gradient[i] += weight * 0.5 * (1 / (1 + math.exp(-theta)) - same) * bank[j]
        for k in range(bits):
            corner = 1.0 if outputs[i, k] >= 0 else -1.0
            loss += eta * (outputs[i, k] - corner) ** 2 / (count * bits)
            gradient[i, k] += eta * 2 * (outputs[i, k] - corner) / (count * bits)
    return loss, gradient


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.1, 3.0])
def test_dpsh_is_the_sum_over_all_pairs(eta, balance):
    system = SYSTEMS["dpsh"](ARCH, CLASSES, ITEMS, 0, eta=eta, balance=balance)
    labels = np.random.default_rng(1).integers(0, CLASSES, ITEMS)
    bank = np.zeros((ITEMS, BITS))
    for step, index in enumerate(([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11, 12], [3, 8, 0])):
        outputs = numbers(len(index), BITS, seed=step).requires_grad_()
        loss = system(outputs, batch(index, labels[index]))
        loss.backward()
        bank[index] = outputs.detach().numpy()
        known = ITEMS if step else 6  # rows never written take no part
        expected, gradient = pairs_by_loop(
            outputs.detach().numpy().astype(float), labels[index], bank[:known], labels[:known], eta, balance=balance
        )
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(outputs.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(system.bank.outputs.numpy(), bank, rtol=1e-6)


def test_pairs_of_one_kind_only_have_nothing_to_balance():
    outputs, others = numbers(3, BITS), numbers(4, BITS, seed=1)
    for labels in (torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)):
        values = [
            pair_likelihood(outputs, labels, others, torch.zeros(4, dtype=torch.int64), balance=balance)
            for balance in (True, False)
        ]
        assert torch.equal(*values)


@pytest.mark.parametrize("balance", [True, False])
def test_pairs_over_several_blocks_agree_with_autograd(balance):
    outputs, others = numbers(5, BITS).requires_grad_(), numbers(5000, BITS, seed=1)
    labels, other_labels = (torch.from_numpy(np.random.default_rng(n).integers(0, 4, n)) for n in (5, 5000))
    loss = pair_likelihood(outputs, labels, others, other_labels, balance=balance)
    (3 * loss).backward()
    copy = outputs.detach().clone().requires_grad_()
    theta, same = 0.5 * copy @ others.T, labels[:, None] == other_labels
    losses = torch.log1p(torch.exp(theta)) - theta * same
    expected = (losses[same].mean() + losses[~same].mean()) / 2 if balance else losses.mean()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(outputs.grad, copy.grad)


def test_dlbhc_is_softmax_on_sigmoids():
    system = SYSTEMS["dlbhc"](ARCH, CLASSES, ITEMS, 5)
    outputs, labels = numbers(4, BITS).requires_grad_(), np.array([0, 2, 1, 1])
    loss = system(outputs, batch(range(4), labels))
    latent = 1 / (1 + np.exp(-outputs.detach().numpy().astype(float)))
    scores = latent @ system.classes.weight.detach().numpy().T + system.classes.bias.detach().numpy()
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert loss.item() == pytest.approx(-np.log(shares[range(4), labels]).mean(), rel=1e-5)
    loss.backward()
    wrong = shares.copy()
    wrong[range(4), labels] -= 1
    expected = wrong @ system.classes.weight.detach().numpy() * latent * (1 - latent) / 4
    np.testing.assert_allclose(outputs.grad.numpy(), expected, rtol=1e-4, atol=1e-7)
    assert {name for name, _ in system.named_parameters()} == {"classes.weight", "classes.bias"}


def test_dlbhc_class_layer_depends_on_the_seed_alone():
    layers = [SYSTEMS["dlbhc"](ARCH, CLASSES, ITEMS, seed).classes.weight for seed in (1, 1, 2)]
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])


def test_onehot_asks_for_the_class_and_for_a_yes_or_no_per_bit():
    system = SYSTEMS["onehot"](ARCH, BITS, ITEMS, 0, weight=0.5)
    outputs, labels = numbers(4, BITS), np.array([0, 5, 1, 1])
    values = outputs.numpy().astype(float)
    softmax = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    yes = 1 / (1 + np.exp(-values))
    targets = np.eye(BITS)[labels]
    binary = -(targets * np.log(yes) + (1 - targets) * np.log(1 - yes)).sum(1).mean()
    expected = -np.log(softmax[range(4), labels]).mean() + 0.5 * binary
    assert system(outputs, batch(range(4), labels)).item() == pytest.approx(expected, rel=1e-5)
    assert one_hot_entropy(outputs, torch.from_numpy(labels)).item() == pytest.approx(binary, rel=1e-5)
    with pytest.raises(InputError, match="6 bits, the data 3 classes"):
        SYSTEMS["onehot"](ARCH, CLASSES, ITEMS, 0)


def test_quantisation_counts_zero_as_plus_one():
    outputs = torch.tensor([[0.0, -0.5], [2.0, -1.0]])
    assert quantisation_l2(outputs).item() == pytest.approx((1 + 0.25 + 1 + 0) / 4)
    assert quantisation_l1(outputs).item() == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    zero = torch.zeros(1, 1, requires_grad=True)
    quantisation_l2(zero).backward()
    assert zero.grad.item() == -2.0  # towards +1


def test_relaxations():
    values = numbers(5, 4)
    assert Identity()(values) is values
    np.testing.assert_allclose(Sigmoid()(values).numpy(), 1 / (1 + np.exp(-values.numpy())), rtol=1e-5)
    tanh = Tanh(start=0.5, growth=3.0)
    np.testing.assert_allclose(tanh(values).numpy(), np.tanh(0.5 * values.numpy()), rtol=1e-5)
    tanh.end_epoch()
    assert tanh.beta == pytest.approx(1.0)  # 0.5 sqrt(1 + 3)
    resumed = Tanh(start=0.5, growth=3.0)
    resumed.load_state_dict(tanh.state_dict())
    assert resumed.beta == tanh.beta


def test_bank_gives_out_what_was_written_and_refuses_items_it_has_no_row_for():
    bank = CodeBank(4, 2)
    assert bank.known()[0].shape == (0, 2)
    values = numbers(2, 2).requires_grad_()
    bank.write(torch.tensor([2, 0]), values, torch.tensor([7, 8]))
    known, labels = bank.known()
    assert torch.equal(known, values[[1, 0]])
    assert labels.tolist() == [8, 7]
    assert not known.requires_grad
    with pytest.raises(InputError, match="4 training items, got item 4"):
        bank.write(torch.tensor([4]), values[:1], torch.tensor([0]))


def test_dpsh_with_several_labels_an_item_takes_shared_ones_for_similar():
    """Two disjoint labels are two classes; an item with both is similar to everything."""
    outputs, others = numbers(4, BITS), numbers(5, BITS, seed=1)
    classes, other_classes = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0, 1])
    many, other_many = (torch.nn.functional.one_hot(rows, 2).float() for rows in (classes, other_classes))
    for balance in (True, False):
        single = pair_likelihood(outputs, classes, others, other_classes, balance=balance)
        torch.testing.assert_close(pair_likelihood(outputs, many, others, other_many, balance=balance), single)
    many[:] = 1
    theta = 0.5 * outputs @ others.T
    expected = (torch.log1p(torch.exp(theta)) - theta).mean()
    torch.testing.assert_close(pair_likelihood(outputs, many, others, other_many, balance=True), expected)


NETWORK = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 4))
TRAINED = [name for name, system in SYSTEMS.items() if not hasattr(system, "solve")]  # the others have no loss


def inputs_of(name, count):
    """Items such as the system sees, prepared for: features or images."""
    generator = np.random.default_rng(0)
    if SYSTEMS[name].on_features:
        values = generator.normal(size=(count, 8)).astype(np.float32)
        return torch.from_numpy(values), Vectors(values, np.zeros(count, dtype=np.int64))
    pixels = generator.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return torch.from_numpy(pixels / np.float32(255)), Images(pixels, np.zeros(count, dtype=np.int64))


@pytest.mark.parametrize("name", TRAINED)
def test_systems_take_several_labels_an_item(name):
    arch = default_arch("lenet300", 4)
    system, resumed = (SYSTEMS[name](arch, 4, ITEMS, seed) for seed in (0, 1))
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 0]])
    outputs = numbers(4, 4).requires_grad_()
    inputs, items = inputs_of(name, ITEMS)
    for one in (system, resumed):
        one.prepare(NETWORK, items)
    given = Batch(torch.arange(4), inputs[:4], labels)
    system(outputs, given).backward()
    assert outputs.grad.abs().sum(1).all()
    resumed.load_state_dict(system.state_dict())
    assert torch.equal(resumed(outputs, given), system(outputs, given))


def test_the_state_of_a_system_holds_no_settings():
    system = SYSTEMS["dpsh"](ARCH, CLASSES, ITEMS, 0, eta=0.5)
    assert set(system.state_dict()) == {"bank.outputs", "bank.labels", "bank.written"}
    assert system.settings == {"eta": 0.5, "balance": True}
    assert SYSTEMS["onehot"](ARCH, BITS, ITEMS, 0, weight=0.5).settings == {"weight": 0.5}


def test_a_class_system_refuses_data_without_classes():
    with pytest.raises(InputError, match="the data have none"):
        SYSTEMS["dlbhc"](ARCH, 0, ITEMS, 0)


@pytest.mark.parametrize("name", TRAINED)
def test_every_system_keeps_the_contract(name):
    """State that comes back whole, an end of the epoch, a finite scalar, a gradient for every output."""
    make = SYSTEMS[name]
    system, resumed = (make(default_arch("lenet300", 4), 4, ITEMS, seed) for seed in (0, 1))
    outputs = numbers(5, 4).requires_grad_()
    inputs, items = inputs_of(name, ITEMS)
    for one in (system, resumed):
        one.prepare(NETWORK, items)
    given = Batch(torch.arange(5), inputs[:5], torch.tensor([0, 1, 2, 3, 0]))
    loss = system(outputs, given)
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert outputs.grad.abs().sum(1).all()
    system.end_epoch()
    resumed.load_state_dict(system.state_dict())
    assert torch.equal(resumed(outputs, given), system(outputs, given))
