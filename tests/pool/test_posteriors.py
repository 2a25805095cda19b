"""Any posterior: an ensemble, or a function that samples one, checked by what it says."""

import numpy as np
import pytest
import torch
from own_models import Net, points, seeded
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deimos.expected_improvement import covariance, greedy_batch
from deimos.pool.select_batch import prepare, select_batch

N = 30
X = points(N, 4)


def fitted(seed, c=1, steps=60):
    """A small network trained on twelve points."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, c))
    y = X[:12, :1].sin() if c == 1 else (X[:12, 0] > 0).long()
    loss = nn.MSELoss() if c == 1 else nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(model(X[:12]), y).backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("c", [1, 3])
def test_an_ensemble_of_five_is_five_samples(c):
    models = [fitted(seed, c) for seed in range(5)]
    found = prepare(models, X, labelled=range(12), at_once=7)
    with torch.no_grad():
        wanted = torch.stack([model(X) for model in models])
    wanted = wanted if c == 1 else wanted.softmax(-1)
    torch.testing.assert_close(found.predictions, wanted)
    V = covariance(wanted.double(), noise=found.noise)
    assert list(found.pick(3).positions) == greedy_batch(V, torch.arange(12, N), 3).tolist()
    assert all(model.training for model in models)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_laplace_posterior_is_asked_for_the_same_weights_at_every_batch(task):
    """Predictions are those of the weights that the package itself draws, set one by one."""
    laplace = pytest.importorskip(
        "laplace", reason="laplace-torch is not installed: see the extra `test`"
    )
    c = 1 if task == "regression" else 2
    model = fitted(0, c)
    y = X[:12, :1].sin() if c == 1 else (X[:12, 0] > 0).long()
    posterior = laplace.Laplace(model, task, subset_of_weights="last_layer")
    posterior.fit(DataLoader(TensorDataset(X[:12], y), 6))

    def predict(batch):
        same = torch.Generator().manual_seed(0)
        return posterior.predictive_samples(batch, pred_type="nn", n_samples=20, generator=same)

    found = prepare(None, X, predict=predict, labelled=range(12), at_once=7)
    weights = posterior.sample(20, generator=torch.Generator().manual_seed(0))
    features = model[:2](X)
    wanted = torch.stack(
        [features @ w[: 16 * c].view(c, 16).T + w[16 * c :] for w in weights]
    ).detach()
    wanted = wanted if c == 1 else wanted.softmax(-1)
    torch.testing.assert_close(found.predictions, wanted, rtol=1e-4, atol=1e-5)
    assert not set(found.pick(5).positions) & set(range(12))

    def afresh(batch):
        return posterior.predictive_samples(batch, pred_type="nn", n_samples=20)

    with pytest.raises(ValueError, match="something is random beside the samples"):
        prepare(None, X, predict=afresh)


def test_what_predict_may_give():
    weights = points(4, 6)
    wanted = prepare(None, X, predict=lambda x: (x @ weights).T).predictions
    for predict in (
        lambda x: (x @ weights).T.unsqueeze(2),
        lambda x: (x @ weights).T.numpy(),
        lambda x: list((x @ weights).T),
        lambda x: [row.numpy() for row in (x @ weights).T],
    ):
        assert torch.equal(prepare(None, X, predict=predict).predictions, wanted)


@pytest.mark.parametrize(
    ("predict", "says"),
    [
        (lambda x: x @ points(4, 6), r"shape \[\d+, 6, 1\]|shape \[\d+, 6\]"),
        (lambda x: torch.randn(6, len(x)), "something is random beside the samples"),
        (lambda x: (x @ points(4, 6)).T.long(), "wanted real numbers"),
        (lambda x: x[None, :, 0], "gave 1 sample of the predictions, wanted 2 or more"),
        (lambda x: x[None, :, 0].expand(6, -1), "nothing varies"),
        (lambda x: (x - x.mean(0))[:, :3].T, "depend on the other points of a batch"),
        (lambda x: None, "predict gave a NoneType, wanted real numbers"),
        (lambda x: "abc", "predict gave a str, wanted real numbers"),
        (lambda x: np.array([["a"] * len(x)] * 3), "predict gave a ndarray, wanted real"),
    ],
)
def test_what_predict_may_not_give_is_refused(predict, says):
    with pytest.raises(ValueError, match=says) as refusal:
        prepare(None, X, predict=predict)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: [nn.Linear(4, 1)], "two models or more, got 1"),
        (lambda: [fitted(0), fitted(0)], "nothing varies"),
        (lambda: [nn.Linear(4, 1), nn.Linear(4, 2)], "different numbers of outputs"),
        (lambda: [nn.Linear(4, 1), nn.Linear(5, 1)], "Linear does not take the pool's points"),
        (lambda: [nn.Linear(4, 1), seeded(Net, lambda m, h: h + torch.randn_like(h))],
         "something is random beside the samples"),
    ],
)  # fmt: skip
def test_what_is_no_ensemble_is_refused(model, says):
    with pytest.raises(ValueError, match=says):
        select_batch(model(), X, 3)
