"""Losses of the published systems: each against its paper's formula in loops, gradients against finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.build import default_arch
from hashpress.hashnets.losses.centers import hash_centers, targets
from hashpress.hashnets.systems import SYSTEMS
from hashpress.hashnets.systems.base import Batch
from hashpress.hashnets.systems.relaxations import BiHalf, StraightThrough

BITS, CLASSES, ITEMS = 4, 3, 9
ARCH = default_arch("lenet300", BITS, ImageInput((1, 4, 4), (0.0,), (1.0,)))
LABELS = np.array([0, 1, 0, 2, 1, 0])
SIMILAR = LABELS[:, None] == LABELS
PAIRS = [(i, j) for i in range(len(LABELS)) for j in range(len(LABELS)) if i != j]
TRIPLETS = [
    (a, p, n) for a, p, n in itertools.product(range(len(LABELS)), repeat=3)
    if a != p and SIMILAR[a, p] and not SIMILAR[a, n]
]  # fmt: skip


def outputs_of(seed=3):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1.2, (len(LABELS), BITS)))


def made(name, **settings):
    return SYSTEMS[name](ARCH, CLASSES, ITEMS, 0, **settings).double()


def batch(labels=LABELS):
    return Batch(torch.arange(len(labels)), torch.zeros(len(labels), 1, 28, 28), torch.as_tensor(labels))


def softmax_entropy(scores, labels):
    return float(np.mean([math.log(sum(np.exp(row))) - row[label] for row, label in zip(scores, labels, strict=True)]))


def scores(system, codes):
    return codes @ system.classes.weight.detach().numpy().T + system.classes.bias.detach().numpy()


def balanced(losses):
    """The mean over similar and that over dissimilar pairs, one half each."""
    return sum(np.mean([losses[pair] for pair in PAIRS if SIMILAR[pair] == which]) for which in (True, False)) / 2


def ssdh(system, u):
    a = 1 / (1 + np.exp(-u))
    away, even = ((a - 0.5) ** 2).mean(), ((a.mean(1) - 0.5) ** 2).mean()
    return softmax_entropy(scores(system, a), LABELS) - 0.5 * away + 0.5 * even


def greedyhash(system, u):
    return softmax_entropy(scores(system, np.where(u >= 0, 1, -1)), LABELS) + 0.1 * (np.abs(np.abs(u) - 1) ** 3).mean()


def csq(system, u):
    wanted, z = (system.centers.codes.numpy()[LABELS] + 1) / 2, np.tanh(u)
    p = (z + 1) / 2
    return -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean() + 1e-4 * ((np.abs(z) - 1) ** 2).mean()


def orthohash(system, u):
    cosine = (u @ system.centers.codes.numpy().T) / np.linalg.norm(u, axis=1)[:, None] / math.sqrt(BITS)
    cosine[range(len(u)), LABELS] -= 0.2
    return softmax_entropy(8 * cosine, LABELS)


def pairwise_entropy(z, scale):
    return balanced({(i, j): math.log1p(math.exp(t := scale * z[i] @ z[j])) - SIMILAR[i, j] * t for i, j in PAIRS})


def dhn(_, u):
    z = np.tanh(u)
    return pairwise_entropy(z, 0.5) + 0.1 * np.log(np.cosh(np.abs(z) - 1)).mean()


def hashnet(_, u):
    return pairwise_entropy(np.tanh(u), 10 / BITS)


def dsh(_, u):
    total = 0.0
    for i, j in PAIRS:
        square = ((u[i] - u[j]) ** 2).sum()
        total += square / 2 if SIMILAR[i, j] else max(2 * BITS - square, 0) / 2
        total += 0.01 * (np.abs(np.abs(u[i]) - 1).sum() + np.abs(np.abs(u[j]) - 1).sum())
    return total / len(PAIRS)


def dch(_, u):
    def distance(x, y):
        return BITS / 2 * (1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    z, losses = np.tanh(u), {}
    for i, j in PAIRS:
        d = distance(z[i], z[j])
        losses[i, j] = SIMILAR[i, j] * math.log(d / 20) + math.log(1 + 20 / d)  # as the paper writes it
    corners = np.mean([math.log(1 + distance(np.abs(row), np.ones(BITS)) / 20) for row in z])
    return balanced(losses) + 0.1 * corners


def triplet(_, u):
    z = np.tanh(u)
    d = (BITS - z @ z.T) / 2 / BITS
    return np.mean([max(0, d[a, p] - d[a, n] + 0.25) for a, p, n in TRIPLETS])


def dtsh(_, u):
    psi = [0.5 * u[a] @ u[p] - 0.5 * u[a] @ u[n] - BITS / 2 for a, p, n in TRIPLETS]
    corners = ((u - np.where(u >= 0, 1, -1)) ** 2).mean()
    return np.mean([-math.log(1 / (1 + math.exp(-value))) for value in psi]) + 0.1 * corners


def dsprh(system, u):
    z = np.tanh(u)
    independence = ((z.T @ z / len(z) - np.eye(BITS)) ** 2).mean()
    corners = ((z - np.where(z >= 0, 1, -1)) ** 2).mean()
    return softmax_entropy(scores(system, z), LABELS) + triplet(system, u) + 0.1 * independence + 0.1 * corners


FORMULAS = {  # the losses as the papers write them, their sums as means
    "ssdh": ssdh, "greedyhash": greedyhash, "csq": csq, "orthohash": orthohash, "dhn": dhn, "hashnet": hashnet,
    "dsh": dsh, "dch": dch, "triplet": triplet, "dtsh": dtsh, "dsprh": dsprh,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_the_papers_formula(name):
    system, outputs = made(name), outputs_of()
    assert system(outputs, batch()).item() == pytest.approx(FORMULAS[name](system, outputs.numpy()), rel=1e-6)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "greedyhash"])
def test_gradients_are_finite_differences(name):
    system = made(name)
    for value in system.parameters():
        value.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda u: system(u, batch()), outputs_of().requires_grad_(), eps=1e-6, atol=1e-5)


def test_the_sign_passes_gradients_as_the_identity():
    outputs = torch.tensor([[0.0, -2.0, 0.5]], requires_grad=True)
    codes = StraightThrough()(outputs)
    assert codes.tolist() == [[1.0, -1.0, 1.0]]
    (codes * torch.tensor([[1.0, 2.0, 3.0]])).sum().backward()
    assert outputs.grad.tolist() == [[1.0, 2.0, 3.0]]


def test_half_of_each_bit_is_on_and_the_gradient_draws_to_the_code():
    outputs = torch.tensor([[3.0, 0.2], [1.0, 0.2], [2.0, -0.1], [5.0, 0.3]], requires_grad=True)
    codes = BiHalf(gamma=6.0)(outputs)
    assert codes.tolist() == [[1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]  # of equal ones the first is lower
    codes.sum().backward()
    torch.testing.assert_close(outputs.grad, 1 + 6 * (outputs.detach() - codes.detach()) / 8)


def test_hash_centers_are_half_the_bits_apart():
    for classes, bits, least in ((10, 32, 16), (64, 32, 16), (2, 2, 1), (10, 48, 16), (100, 16, 4)):
        centers = hash_centers(classes, bits, 0).numpy()
        assert set(np.unique(centers)) == {-1, 1}
        distances = [(a != b).sum() for a, b in itertools.combinations(centers, 2)]
        assert min(distances) >= least, (classes, bits)
    assert torch.equal(hash_centers(10, 48, 1), hash_centers(10, 48, 1))


def test_items_of_several_classes_ask_for_the_majority_of_their_centers():
    centers = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    ties = torch.tensor([-1.0, 1, -1, 1])
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]])
    rows = targets(centers, labels, ties).tolist()
    assert rows == [[1, 1, -1, -1], [1, -1, -1, -1], [1, 1, -1, -1], [-1, 1, -1, 1]]


@pytest.mark.parametrize("name", SYSTEMS)
def test_items_without_a_class_are_no_trouble(name):
    arch = default_arch("lenet300", 3)
    outputs = outputs_of()[:3, :3].float().requires_grad_()
    loss = SYSTEMS[name](arch, 3, ITEMS, 0)(outputs, batch(np.zeros((3, 3), dtype=np.float32)))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_item_alone_is_no_trouble(name):
    arch = default_arch("lenet300", 3)
    outputs = outputs_of()[:1, :3].float().requires_grad_()
    loss = SYSTEMS[name](arch, 3, ITEMS, 0)(outputs, batch(np.array([1])))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", ["ssdh", "greedyhash", "csq", "orthohash", "dsdh", "dsprh", "dlbhc"])
def test_class_systems_refuse_data_without_classes(name):
    with pytest.raises(InputError, match="the data have none"):
        SYSTEMS[name](ARCH, 0, ITEMS, 0)


def test_equal_outputs_of_similar_items_have_a_finite_cauchy_loss():
    outputs = torch.ones(2, BITS, dtype=torch.float64, requires_grad=True)
    for labels in ([1, 1], [0, 1]):
        loss = made("dch")(outputs, batch(np.array(labels)))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(outputs.grad).all()
