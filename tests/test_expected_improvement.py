from itertools import combinations

import numpy as np
import pytest
import torch
from covariances import dense, predicted

from deimos.acquisition.exhaustive import optimal_batch
from deimos.acquisition.fast_selection import select_with_gains
from deimos.expected_improvement import (
    condition,
    covariance,
    expected_improvement,
    greedy_batch,
    select,
    variance_removed,
)

APPENDIX_A = torch.tensor([[9.0, 3, 2], [3, 2, 3], [2, 3, 9]]).double().view(3, 1, 3, 1)


# Printed in the paper


def test_greedy_reproduces_the_printed_example():
    greedy = greedy_batch(APPENDIX_A, torch.arange(3), batch_size=2).tolist()
    optimal = max(combinations(range(3), 2), key=lambda b: variance_removed(APPENDIX_A, b))
    assert greedy[0] == 1 and optimal == (0, 2)  # the paper counts points from 1
    assert variance_removed(APPENDIX_A, greedy) == pytest.approx(16.9, abs=0.05)
    assert variance_removed(APPENDIX_A, optimal) == pytest.approx(19.6, abs=0.05)


# The slow obvious twin


def test_the_covariance_is_that_of_numpy_plus_the_noise(rng):
    predictions = predicted(rng, 7, 5, 3)
    expected = np.cov(predictions.flatten(1).numpy(), rowvar=False) + 0.3 * np.eye(15)
    V = covariance(predictions, noise=0.3)
    torch.testing.assert_close(V.flatten(2).flatten(0, 1), torch.from_numpy(expected))


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ei_is_the_trace_that_conditioning_removes(rng, c, smoothing):
    V = covariance(predicted(rng, 9, 12, c), noise=0.1)
    candidates = torch.tensor([7, 2, 11])
    traces = [variance_removed(V, [n], smoothing) for n in candidates.tolist()]
    gains = expected_improvement(V, candidates, smoothing)
    torch.testing.assert_close(gains, torch.tensor(traces).to(V))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_conditioning_point_by_point_is_conditioning_on_the_batch_at_once(rng, smoothing):
    c, batch = 2, [3, 8, 0]
    V = covariance(predicted(rng, 30, 10, c), noise=0.1)
    flat, rows = V.flatten(2).flatten(0, 1), [n * c + k for n in batch for k in range(c)]
    given_batch = flat[rows][:, rows] + smoothing * torch.eye(len(rows)).to(V)
    expected = torch.trace(torch.linalg.solve(given_batch, flat[rows] @ flat[:, rows]))
    assert variance_removed(V, batch, smoothing) == pytest.approx(expected.item(), rel=1e-12)


# Invariants


def test_no_label_raises_the_total_variance_and_none_is_worth_less_than_nothing(rng):
    V = covariance(predicted(rng, 8, 20, 2), noise=0.01)
    for n in [3, 17, 3, 9]:
        assert (expected_improvement(V, torch.arange(20)) >= 0).all()
        left = condition(V, n)
        assert torch.einsum("ikik", left) <= torch.einsum("ikik", V) * (1 + 1e-12)
        V = left


@pytest.mark.parametrize("c", [1, 4])
def test_a_shuffled_pool_gives_the_same_batch(rng, c):
    predictions, order = predicted(rng, 20, 40, c), torch.from_numpy(rng.permutation(40))
    batch = select(predictions, torch.arange(40), 10, noise=0.1)
    assert order[select(predictions[:, order], torch.arange(40), 10, noise=0.1)].equal(batch)
    assert select(predictions, order, 10, noise=0.1).equal(batch)


def test_points_outside_the_candidates_count_but_are_not_picked(rng):
    predictions = predicted(rng, 20, 40, 1)
    inside = torch.arange(10)
    with_others = select_with_gains(predictions, inside, 5, noise=0.1)
    alone = select_with_gains(predictions[:, :10], inside, 5, noise=0.1)
    assert set(with_others[0].tolist()) <= set(range(10))
    assert (with_others[1] > alone[1]).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_ties_go_to_the_lowest_position(rng, order):
    twins, candidates = predicted(rng, 12, 3, 1)[:, [2, 1, 0, 0, 1, 2]], torch.tensor(order)
    batch = select(twins, candidates, 3, noise=1e-6)
    assert sorted(batch.tolist()) == [0, 1, 2]
    assert greedy_batch(covariance(twins, noise=1e-6), candidates, 3).equal(batch)


# Degenerate input


@pytest.mark.parametrize("given", [{}, {"noise": 0.5}, {"smoothing": 0.5}])
def test_without_any_variance_the_lowest_candidates_are_picked(given):
    constant, candidates = torch.ones(4, 6, 2).double(), torch.tensor([5, 3, 1, 2])
    batch, gains = select_with_gains(constant, candidates, 3, **given)
    V, smoothing = dense(constant, **given)
    assert batch.tolist() == [1, 2, 3] == greedy_batch(V, candidates, 3, smoothing).tolist()
    assert gains.tolist() == [2 * given.get("noise", 0.0)] * 3


@pytest.mark.parametrize("c", [1, 3])
def test_beyond_the_rank_nothing_improves_and_the_lowest_candidates_are_picked(rng, c):
    predictions = predicted(rng, 4, 30, c)  # rank 3
    batch, gains = select_with_gains(predictions, torch.arange(30), 9)
    informative = -(-3 // c)
    rest = batch[informative:].tolist()
    assert rest == sorted(set(range(30)) - set(batch[:informative].tolist()))[: len(rest)]
    assert gains[:informative].sum().item() == pytest.approx(
        torch.einsum("ikik", covariance(predictions)).item()
    )
    assert gains[informative:].abs().max() < 1e-9 * gains[0]
    slow = greedy_batch(covariance(predictions), torch.arange(30), 9)
    assert variance_removed(covariance(predictions), slow) == pytest.approx(gains.sum().item())


def test_a_duplicate_of_a_noiseless_pick_is_worth_nothing(rng):
    predictions = predicted(rng, 20, 10, 1).repeat(1, 3, 1)
    batch, gains = select_with_gains(predictions, torch.arange(30), 12)
    assert sorted(batch[:10].tolist()) == list(range(10)) and batch[10:].tolist() == [10, 11]
    assert gains[10:].abs().max() < 1e-9 * gains[0]


def test_the_dense_functions_say_what_is_wrong():
    with pytest.raises(ValueError, match="wanted 2 or more"):
        covariance(torch.ones(1, 4, 1))
    with pytest.raises(ValueError, match="NaN"):
        covariance(torch.full((3, 4, 1), torch.nan))
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"got noise={noise}"):
            covariance(torch.ones(3, 4, 1), noise)
    for smoothing in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"smoothing={smoothing}, wanted one ≥ 0"):
            greedy_batch(APPENDIX_A, torch.arange(3), 2, smoothing)
    for search in (greedy_batch, optimal_batch):
        with pytest.raises(ValueError, match="got batch size 4, wanted 1 to 3"):
            search(APPENDIX_A, torch.arange(3), 4)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [(1, 1), (0, 2)], ids=["a variance", "a covariance"])
@pytest.mark.parametrize(
    "use",
    [
        lambda V: expected_improvement(V, torch.arange(3)),
        lambda V: condition(V, 1),
        lambda V: greedy_batch(V, torch.arange(3), 2),
        lambda V: optimal_batch(V, torch.arange(3), 2),
        lambda V: variance_removed(V, [1]),
    ],
    ids=["expected_improvement", "condition", "greedy_batch", "optimal_batch", "variance_removed"],
)
def test_a_covariance_with_what_is_no_number_gives_no_answer(use, where, wrong):
    V = APPENDIX_A.clone()
    i, j = where
    V[i, 0, j, 0] = V[j, 0, i, 0] = wrong
    with pytest.raises(ValueError, match="got a covariance with NaN or infinite entries"):
        use(V)
