"""Points that matter more, less or not at all, whether they can be picked or not."""

import numpy as np
import pytest
import torch
from covariances import predicted
from hypothesis import given, settings
from hypothesis import strategies as st

from deimos.acquisition.checks import check_weights
from deimos.acquisition.fast_selection import batch_improvement, select, select_with_gains
from deimos.expected_improvement import (
    condition,
    covariance,
    expected_improvement,
    greedy_batch,
    variance_removed,
)


def drawn(rng, S):
    """A third of the points do not matter, the others from hardly to a thousand times as much."""
    return torch.from_numpy(10 ** rng.uniform(-2, 3, S) * (rng.random(S) > 1 / 3))


def worst_regret(V, smoothing, batch, candidates, weights):
    """Largest shortfall of a pick from the best, as a fraction of what the batch removes."""
    removed, left, worst = variance_removed(V, batch, smoothing, weights), candidates, 0.0
    for n in batch:
        gains = expected_improvement(V, left, smoothing, weights=weights)
        worst = max(worst, (gains.max() - gains[left == n]).item() / removed)
        V, left = condition(V, n.item(), smoothing), left[left != n]
    return worst


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_ei_is_the_weighted_trace_that_conditioning_removes(rng, c, smoothing):
    V, weights = covariance(predicted(rng, 9, 12, c), noise=0.1), drawn(rng, 12)
    removed = []
    for n in range(12):
        before, after = (
            torch.einsum("ikik->i", X).numpy() for X in (V, condition(V, n, smoothing))
        )
        removed.append(float(weights.numpy() @ before - weights.numpy() @ after))
    gains = expected_improvement(V, torch.arange(12), smoothing, weights=weights)
    torch.testing.assert_close(gains, torch.tensor(removed).to(V))
    for n in range(12):
        one = variance_removed(V, [n], smoothing, weights)
        assert one == pytest.approx(removed[n], rel=1e-9)


@pytest.mark.parametrize("b", [1, 4])
def test_a_weight_of_two_is_the_same_point_twice(rng, b):
    """Twins that share all of their variance, without noise: two of them are one of weight 2."""
    predictions, weights = predicted(rng, 30, 15, 2), torch.ones(15).double()
    weights[[2, 7]] = 2
    twice = torch.cat([predictions, predictions[:, [2, 7]]], 1)
    plain = select_with_gains(twice, torch.arange(15), b, smoothing=0.1)
    weighted = select_with_gains(predictions, torch.arange(15), b, 0.0, 0.1, weights)
    assert plain[0].equal(weighted[0])
    torch.testing.assert_close(plain[1], weighted[1])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    J=st.integers(2, 25),
    S=st.integers(2, 30),
    c=st.sampled_from([1, 2, 3, 10]),
    softmax=st.booleans(),
    kind=st.sampled_from(["noise", "smoothing"]),
    fraction=st.sampled_from([1e-12, 1e-6, 0.01, 0.5]),
    data=st.data(),
)
def test_weighted_select_is_weighted_greedy_batch(seed, J, S, c, softmax, kind, fraction, data):
    rng = np.random.default_rng(seed)
    predictions, weights = predicted(rng, J, S, c, softmax and c > 1), drawn(rng, S)
    weights[0] = 1.0
    candidates = torch.from_numpy(rng.permutation(S)[: data.draw(st.integers(1, S))])
    b = data.draw(st.integers(1, len(candidates)))
    nugget = {kind: fraction * predictions.var(0).mean().item()}
    V, smoothing = covariance(predictions, nugget.get("noise", 0.0)), nugget.get("smoothing", 0.0)
    batch, gains = select_with_gains(predictions, candidates, b, **nugget, weights=weights)
    slow = greedy_batch(V, candidates, b, smoothing, weights)
    removed = variance_removed(V, slow, smoothing, weights)
    assert gains.sum().item() == pytest.approx(removed, rel=1e-7)
    assert variance_removed(V, batch, smoothing, weights) == pytest.approx(removed, rel=1e-7)
    assert worst_regret(V, smoothing, batch, candidates, weights) < 1e-8


@pytest.mark.parametrize("fraction", [1e-9, 1e-3, 1.0])
@pytest.mark.parametrize("kind", ["noise", "smoothing"])
@pytest.mark.parametrize("c", [1, 2, 10])
@pytest.mark.parametrize("J", [5, 12, 60])
def test_weighted_batches_below_at_and_beyond_the_number_of_masks(rng, J, c, kind, fraction):
    S, b = 40 if c < 10 else 24, 12
    predictions, weights = predicted(rng, J, S, c, softmax=c > 1), drawn(rng, S)
    candidates = torch.from_numpy(rng.permutation(S)[: 3 * S // 4])
    nugget = {kind: fraction * predictions.var(0).mean().item()}
    V, smoothing = covariance(predictions, nugget.get("noise", 0.0)), nugget.get("smoothing", 0.0)
    batch = select(predictions, candidates, b, **nugget, weights=weights)
    slow = greedy_batch(V, candidates, b, smoothing, weights)
    removed = variance_removed(V, slow, smoothing, weights)
    assert variance_removed(V, batch, smoothing, weights) == pytest.approx(removed, rel=1e-8)
    assert batch_improvement(predictions, batch, **nugget, weights=weights) == pytest.approx(
        removed, rel=1e-8
    )
    assert set(batch.tolist()) <= set(candidates.tolist()) and len(set(batch.tolist())) == b
    if J > b * c or fraction == 1.0:
        assert batch.tolist() == slow.tolist()


def test_equal_weights_pick_what_no_weights_pick(rng):
    predictions = predicted(rng, 20, 50, 3)
    for nugget in ({"noise": 0.1}, {"smoothing": 0.1}):
        plain = select_with_gains(predictions, torch.arange(40), 10, **nugget)
        equal = select_with_gains(
            predictions, torch.arange(40), 10, **nugget, weights=torch.full((50,), 3.0)
        )
        assert plain[0].equal(equal[0])
        torch.testing.assert_close(3 * plain[1], equal[1])


def test_points_that_do_not_matter_are_picked_for_those_that_do(rng):
    """Two groups with nothing in common: labels go to the group that matters, or its twins."""
    apart = torch.zeros(20, 30, 1).double()
    apart[:10, :10], apart[10:, 10:20] = predicted(rng, 10, 10, 1), 9 * predicted(rng, 10, 10, 1)
    apart[:, 20:] = 2 * apart[:, :10]  # move as the first ten do, and further
    weights = torch.zeros(30).double()
    weights[:10] = 1  # none of the candidates
    batch = select(apart, torch.arange(10, 30), 5, smoothing=1e-3, weights=weights)
    assert set(batch.tolist()) <= set(range(20, 30))
    assert select(apart, torch.arange(10, 30), 1, smoothing=1e-3).item() in range(10, 20)


@pytest.mark.parametrize(
    "wrong, says",
    [
        (-torch.ones(12), "negative, not finite or all 0"),
        (torch.zeros(12), "negative, not finite or all 0"),
        (torch.full((12,), torch.nan), "negative, not finite or all 0"),
        (torch.full((12,), torch.inf), "negative, not finite or all 0"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(rng, wrong, says):
    predictions = predicted(rng, 5, 12, 1)
    with pytest.raises(ValueError, match=says):
        select(predictions, torch.arange(8), 2, weights=wrong)
    with pytest.raises(ValueError, match=says):
        greedy_batch(covariance(predictions), torch.arange(8), 2, weights=wrong)
    with pytest.raises(ValueError, match="got 11 weights for 12 points, wanted one a point"):
        check_weights(torch.ones(11), 12)


def test_a_whole_pool_is_not_copied_apart_and_keeps_its_order(rng):
    """The larger of candidates and others takes the place of both: whichever it is."""
    predictions, order = predicted(rng, 8, 60, 2), torch.from_numpy(rng.permutation(60))
    V = covariance(predictions, noise=0.1)
    for n in (3, 30, 31, 57, 60):
        batch = select(predictions, order[:n], 3, noise=0.1)
        assert batch.tolist() == greedy_batch(V, order[:n], 3).tolist()
