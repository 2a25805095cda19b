"""Masks are shared by all points, and a shared mask is what a hand-masked forward pass does."""

import math

import pytest
import tiny
import torch
from torch import nn

from deimos.models import mc_dropout
from deimos.models.networks import Network


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(5, 8), nn.ReLU()), (8, 6, 3), p=0.4)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(11, 5, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_predictions_equal_a_forward_pass_masked_by_hand(network, x):
    masks = mc_dropout.draw_masks(network, (4,), generator())
    predictions = mc_dropout.predict_shared(network, mc_dropout.trunk_features(network, x), masks)
    for j in range(4):
        for s in range(len(x)):
            h = network.trunk(x[s : s + 1])[0]
            h = torch.relu(network.dense[0].weight @ (h * masks[0][j]) + network.dense[0].bias)
            h = network.dense[1].weight @ (h * masks[1][j]) + network.dense[1].bias
            torch.testing.assert_close(predictions[j, s], h.softmax(0))


def test_a_shuffled_pool_gives_the_same_predictions_point_by_point(network, x):
    masks = mc_dropout.draw_masks(network, (4,), generator())
    order = torch.randperm(len(x), generator=generator(3))
    straight = mc_dropout.predict_shared(network, mc_dropout.trunk_features(network, x), masks)
    shuffled = mc_dropout.predict_shared(
        network, mc_dropout.trunk_features(network, x[order]), masks
    )
    torch.testing.assert_close(shuffled, straight[:, order])


def test_equal_points_agree_under_shared_masks_and_differ_under_fresh_ones(network, x):
    twins = mc_dropout.trunk_features(network, x[[0, 0]])
    masks = mc_dropout.draw_masks(network, (6,), generator())
    shared = mc_dropout.predict_shared(network, twins, masks)
    fresh = mc_dropout.predict_fresh(network, twins, 6, generator())
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.equal(fresh[:, 0], fresh[:, 1])


def test_masks_keep_their_mean_and_drop_a_share_p_of_the_units(network):
    masks = mc_dropout.draw_masks(network, (5000,), generator())
    assert [m.shape[1] for m in masks] == [8, 6]
    for mask in masks:
        assert mask.unique().tolist() == pytest.approx([0, 1 / 0.6])
        assert mask.mean().item() == pytest.approx(1, abs=0.02)


def test_the_predictive_mean_is_the_mean_of_the_fresh_passes(network, x):
    features = mc_dropout.trunk_features(network, x)
    mean = mc_dropout.predictive_mean(network, features, 9, generator(4))
    passes = mc_dropout.predict_fresh(network, features, 9, generator(4))
    torch.testing.assert_close(mean, passes.mean(0))


def test_chunks_of_points_change_nothing(network, x, monkeypatch):
    whole = mc_dropout.trunk_features(network, x)
    monkeypatch.setattr(mc_dropout, "TRUNK_NUMBERS_AT_ONCE", 4 * x[0].numel())
    torch.testing.assert_close(mc_dropout.trunk_features(network, x), whole)


def test_diversity_is_the_average_symmetric_divergence_over_pairs():
    p = torch.rand(5, 4, generator=generator(), dtype=torch.float64).softmax(1)
    pairs = [
        (p[i] * (p[i] / p[j]).log()).sum() + (p[j] * (p[j] / p[i]).log()).sum()
        for i in range(5)
        for j in range(i)
    ]
    assert mc_dropout.batch_diversity(p) == pytest.approx(sum(pairs).item() / len(pairs))


def test_equal_predictions_have_no_diversity_and_certain_ones_a_finite_one():
    assert mc_dropout.batch_diversity(torch.full((3, 2), 0.5)) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(mc_dropout.batch_diversity(torch.eye(2)))
    assert math.isnan(mc_dropout.batch_diversity(torch.ones(1, 2) / 2))


def test_confident_pairs_of_two_classes_make_their_share_of_the_diversity():
    logits = 6 * torch.randn(12, 3, generator=generator(2), dtype=torch.float64)
    p = logits.softmax(1)
    shares = {True: 0.0, False: 0.0}
    for i in range(12):
        for j in range(i):
            apart = ((p[i] - p[j]) * (p[i] / p[j]).log()).sum().item()
            confident = p[i].max() > 0.9 and p[j].max() > 0.9
            shares[bool(confident and p[i].argmax() != p[j].argmax())] += apart
    assert min(shares.values()) > 0
    expected = shares[True] / sum(shares.values())
    assert mc_dropout.confident_share(p, 0.9) == pytest.approx(expected)


def test_without_confident_pairs_or_diversity_their_share_is_none():
    assert mc_dropout.confident_share(torch.tensor([[0.6, 0.4], [0.3, 0.7]])) == 0
    assert mc_dropout.confident_share(torch.tensor([[0.999, 0.001], [0.3, 0.7]])) == 0
    assert mc_dropout.confident_share(torch.full((4, 2), 0.5)) == 0
    of_one_class = torch.tensor([[0.999, 0.001], [0.995, 0.005], [0.4, 0.6]])
    assert mc_dropout.confident_share(of_one_class) == pytest.approx(0, abs=1e-12)


def test_logits_are_what_the_probabilities_are_made_of_under_the_same_masks():
    network = Network(nn.Sequential(nn.Linear(3, 6), nn.ReLU()), (6, 5, 4), p=0.3)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    features = mc_dropout.trunk_features(network, x)
    masks = mc_dropout.draw_masks(network, (5,), torch.Generator().manual_seed(1))
    logits = mc_dropout.predict_shared(network, features, masks, "logits")
    probabilities = mc_dropout.predict_shared(network, features, masks)
    assert logits.min() < 0 and not torch.equal(logits, probabilities)
    torch.testing.assert_close(logits.softmax(-1), probabilities)
    with pytest.raises(ValueError, match="got space='odds', wanted probabilities or logits"):
        mc_dropout.predict_shared(network, features, masks, "odds")


def test_features_that_do_not_fit_on_the_device_are_computed_in_smaller_parts(
    monkeypatch,
):
    task, network = tiny.moons(), tiny.build(torch.Generator().manual_seed(0))
    whole = mc_dropout.trunk_features(network, task.x)
    features, parts = type(network).features, []

    def small_device(network, x):
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        parts.append(len(x))
        return features(network, x)

    monkeypatch.setattr(type(network), "features", small_device)
    with pytest.warns(UserWarning, match="out of memory: .* in smaller parts") as told:
        torch.testing.assert_close(mc_dropout.trunk_features(network, task.x), whole)
    assert len({str(warning.message) for warning in told}) == 1  # which Python shows once
    assert sum(parts) == len(task.x) and max(parts) <= 20
    monkeypatch.setattr(type(network), "features", lambda network, x: small_device(network, task.x))
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning):
        mc_dropout.trunk_features(network, task.x)
