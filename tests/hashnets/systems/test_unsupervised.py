"""Systems on features, stage-wise ones and those that look at the network: losses by hand, and a run of each."""

import numpy as np
import pytest
import torch
from hashpress.core.data import load_data
from hashpress.core.data.vectors import Vectors
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput, VectorInput
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.solvers.discrete import cyclic_descent, ridge
from hashpress.hashnets.systems import SYSTEMS
from hashpress.hashnets.systems.base import Batch
from hashpress.hashnets.systems.unsupervised.deepbit import rotate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train

ARCH = default_arch("mlp", 4, VectorInput(6))


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


@pytest.fixture(scope="module")
def digits():
    return load_data("digits?limit=400")


@pytest.fixture(scope="module")
def start(digits):
    """A network whose features are worth something: trained on the classes for a moment."""
    arch = default_arch("lenet300", 16, ImageInput.of(digits))
    return train(untrained(arch, seed=1), digits, "dlbhc", Schedule(epochs=3, lr=0.05, batch=64))


@pytest.mark.parametrize("name", ["lsh", "pca-rotation", "itq"])
def test_a_solved_head_gives_the_signs_of_projected_features(start, digits, name):
    model = train(start, digits, name, Schedule())
    assert all(
        torch.equal(a, b) for a, b in zip(model.net.encoder.parameters(), start.net.encoder.parameters(), strict=True)
    )
    with torch.no_grad():
        features = start.net.encoder(start.arch.input.tensor(digits.train.values[:]))
        expected = (features - features.mean(0)) @ model.net.head.weight.T
    np.testing.assert_allclose(outputs(model, digits.train.values), expected, atol=2e-3)
    if name != "lsh":
        torch.testing.assert_close(model.net.head.weight @ model.net.head.weight.T, torch.eye(16), atol=1e-4, rtol=0)
    assert evaluate(model, digits).map > (0.3 if name == "lsh" else 0.5)
    assert model.history[-1].settings["system"] == name


@pytest.mark.parametrize("name", ["bihalf", "uh-bdnn", "sh-bdnn"])
def test_a_system_on_features_trains_the_head_alone(start, digits, name):
    model = train(start, digits, name, Schedule(epochs=3, lr=0.01, batch=64))
    assert all(
        torch.equal(a, b) for a, b in zip(model.net.encoder.parameters(), start.net.encoder.parameters(), strict=True)
    )
    assert not torch.equal(model.net.head.weight, start.net.head.weight)
    assert evaluate(model, digits).map > 0.4


def test_features_need_one_dense_head(digits, start):
    class Another(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :16]

    with pytest.raises(InputError, match="features before the hash head"):
        train(start.edited(Another(), (), start.history[-1]), digits, "itq", Schedule())
    with pytest.raises(InputError, match="features have no 200 principal axes"):
        train(untrained(default_arch("lenet300", 200, ImageInput.of(digits))), digits, "itq", Schedule())


def test_cnnh_learns_codes_of_its_own_and_plus_the_classes_too(digits):
    arch = default_arch("lenet300", 16, ImageInput.of(digits))
    for name in ("cnnh", "cnnh-plus"):
        model = train(untrained(arch, seed=1), digits, name, Schedule(epochs=4, lr=0.05, batch=64))
        assert evaluate(model, digits).map > 0.6, name
    with pytest.raises(InputError, match=r"at most 12,000, and there are 50,000"):
        SYSTEMS["cnnh"](arch, 10, 50_000, 0)


def test_uh_bdnn_is_three_terms_and_solves_decoder_and_codes():
    system = SYSTEMS["uh-bdnn"](ARCH, 0, 12, 0)
    features, u = normal(12, 6, seed=1), normal(12, 4, seed=2).requires_grad_()
    system.prepare(torch.nn.Identity(), Vectors(features.numpy(), np.zeros(12, dtype=np.int64)))
    codes = system.binary.clone()
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    loss = system(u, Batch(torch.arange(12), features, torch.zeros(12, dtype=torch.int64)))
    h = u.detach().numpy().astype(float)
    expected = 0.05 / 2 * ((h - codes.numpy()) ** 2).sum(1).mean()
    expected += 0.01 / 2 * ((h.T @ h / 12 - np.eye(4)) ** 2).sum() + 5e-7 / 2 / 12 * (h.sum(0) ** 2).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    system.end_epoch()
    centred = features - features.mean(0)
    decoder = ridge(codes, centred, 1e-5 * 12)
    assert torch.equal(system.binary, cyclic_descent(codes, centred @ decoder.T + 0.05 * u.detach(), decoder))


def test_sh_bdnn_fits_inner_products_to_similarities():
    u, labels = normal(5, 4), np.array([0, 1, 0, 2, 1])
    h, similar = u.numpy().astype(float), np.where(labels[:, None] == labels, 1, -1)
    expected = ((h @ h.T / 4 - similar) ** 2).mean() / 2 + 5 / 2 * ((h - np.where(h >= 0, 1, -1)) ** 2).mean()
    expected += ((h.T @ h / 5 - np.eye(4)) ** 2).mean() / 2 + 1e-4 / 2 * (h.mean(0) ** 2).mean()
    system = SYSTEMS["sh-bdnn"](ARCH, 3, 5, 0)
    loss = system(u, Batch(torch.arange(5), u, torch.from_numpy(labels)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["dh", "sdh"])
def test_dh_and_sdh_are_the_papers_terms(name):
    u, labels = normal(6, 4), np.array([0, 1, 0, 2, 1, 1])
    layer = torch.nn.Linear(5, 3)
    system = SYSTEMS[name](ARCH, 3, 6, 0)
    system.prepare(layer, Vectors(normal(6, 6).numpy(), labels))
    z, weight = np.tanh(u.numpy().astype(float)), layer.weight.detach().numpy()
    expected = ((np.where(z >= 0, 1, -1) - z) ** 2).mean() / 2 - 100 / 2 * z.var(0).mean() / 4
    expected += 0.001 / 2 * ((weight @ weight.T - np.eye(3)) ** 2).sum() + 0.001 / 2 * (weight**2).sum()
    if name == "sdh":
        means = np.stack([z[labels == c].mean(0) for c in range(3)])
        between = np.mean([((means[c] - z.mean(0)) ** 2) for c in labels])
        within = np.mean([((z[i] - means[c]) ** 2) for i, c in enumerate(labels)])
        expected -= between - within
    loss = system(u, Batch(torch.arange(6), u, torch.from_numpy(labels)))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_deepbit_rotates_about_the_middle_and_keeps_the_network_out_of_its_state():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    quarter = rotate(image, torch.tensor([90.0]))[0, 0]
    turned = [torch.rot90(image[0, 0], times) for times in (1, 3)]
    assert any(torch.allclose(quarter, other, atol=1e-4) for other in turned)
    torch.testing.assert_close(rotate(image, torch.tensor([0.0])), image)
    wide = torch.zeros(1, 1, 4, 8)
    wide[..., 1:3, 3:5] = 1.0
    torch.testing.assert_close(rotate(wide, torch.tensor([90.0])), wide, atol=1e-4, rtol=0)
    system = SYSTEMS["deepbit"](default_arch("lenet300", 4), 0, 4, 0)
    system.prepare(torch.nn.Flatten(), load_data("digits?limit=100").train)
    assert not list(system.parameters())
    with pytest.raises(InputError, match="rotates images, and the network takes vector inputs"):
        SYSTEMS["deepbit"](ARCH, 0, 4, 0)


def test_semantic_hashing_draws_the_noise_of_an_item_once(digits):
    arch = default_arch("lenet300", 4, ImageInput.of(digits))
    system = SYSTEMS["semantic-hashing"](arch, 0, 5, 3)
    batch = Batch(torch.tensor([4, 1]), normal(2, 1, 8, 8), torch.zeros(2))
    u = normal(2, 4)
    first, second = system(u, batch), system(u, batch)
    assert torch.equal(first, second)
    codes = torch.sigmoid(u + 4 * system.drawn[[4, 1]])
    assert first.item() == pytest.approx((system.decoder(codes) - batch.inputs.flatten(1)).square().mean().item())


@pytest.mark.parametrize("name", ["deepbit", "dh", "sdh", "semantic-hashing"])
def test_the_others_train_on_images_from_end_to_end(digits, name):
    arch = default_arch("lenet300", 8, ImageInput.of(digits))
    settings = {"variance": 1.0} if name in ("dh", "sdh") else {}
    model = train(untrained(arch, seed=1), digits, name, Schedule(epochs=2, lr=0.01, batch=64), settings=settings)
    assert np.isfinite(outputs(model, digits.queries.values)).all()
    assert not torch.equal(model.net.head.weight, untrained(arch, seed=1).net.head.weight)
