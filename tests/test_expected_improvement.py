from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deimos import candidate_blocks, fast_selection
from deimos.expected_improvement import (
    batch_improvement,
    condition,
    covariance,
    expected_improvement,
    greedy_batch,
    optimal_batch,
    select,
    variance_removed,
)
from deimos.fast_selection import select_with_gains

APPENDIX_A = torch.tensor([[9.0, 3, 2], [3, 2, 3], [2, 3, 9]]).double().view(3, 1, 3, 1)


def predicted(rng, J, S, c, softmax=False):
    """Predictions whose masks agree more at some points than at others."""
    spread = rng.uniform(0.1, 1, (S, 1)) * rng.standard_normal((J, S, c))
    if not softmax:
        return torch.from_numpy(spread)
    return torch.from_numpy(spread + 2 * rng.standard_normal((S, c))).softmax(-1)


def nugget(predictions, kind, fraction):
    """τ⁻¹ or τ_s⁻¹ as a fraction of the mean variance, by the name it is given under."""
    return {kind: fraction * predictions.var(0).mean().item()}


def dense(predictions, noise=0.0, smoothing=0.0):
    """V and the smoothing, as the dense functions take them."""
    return covariance(predictions, noise), smoothing


def worst_regret(V, smoothing, batch, candidates):
    """How far a pick is below the best at worst, as a fraction of what the batch removes."""
    removed, left, worst = variance_removed(V, batch, smoothing), candidates, 0.0
    for n in batch:
        gains = expected_improvement(V, left, smoothing)
        worst = max(worst, (gains.max() - gains[left == n]).item() / removed)
        V, left = condition(V, n.item(), smoothing), left[left != n]
    return worst


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


@pytest.mark.parametrize("fraction", [1e-12, 1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("kind", ["noise", "smoothing"])
@pytest.mark.parametrize("c, softmax", [(1, False), (2, True), (10, True), (10, False)])
@pytest.mark.parametrize("J", [4, 12, 60])
def test_select_is_greedy_batch_whatever_the_nugget(rng, J, c, softmax, kind, fraction):
    S, b = 40, 12
    predictions = predicted(rng, J, S, c, softmax)
    candidates = torch.from_numpy(rng.permutation(S)[:30])  # the others are labelled
    given = nugget(predictions, kind, fraction)
    V, smoothing = dense(predictions, **given)
    batch = select(predictions, candidates, b, **given)
    slow = greedy_batch(V, candidates, b, smoothing)
    removed = variance_removed(V, slow, smoothing)
    assert variance_removed(V, batch, smoothing) == pytest.approx(removed, rel=1e-8)
    assert batch_improvement(predictions, batch, **given) == pytest.approx(removed, rel=1e-8)
    assert set(batch.tolist()) <= set(candidates.tolist()) and len(set(batch.tolist())) == b
    # Beyond the rank, and without noise to speak of, all candidates tie up to rounding.
    if J > b * c or fraction >= 1e-3:
        assert batch.tolist() == slow.tolist()
    else:
        assert worst_regret(V, smoothing, batch, candidates) < 1e-9


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    J=st.integers(2, 25),
    S=st.integers(1, 30),
    c=st.sampled_from([1, 2, 3, 10]),
    softmax=st.booleans(),
    kind=st.sampled_from(["noise", "smoothing"]),
    fraction=st.sampled_from([1e-9, 1e-4, 0.01, 0.5]),
    data=st.data(),
)
def test_select_is_greedy_batch_whatever_the_shape(seed, J, S, c, softmax, kind, fraction, data):
    rng = np.random.default_rng(seed)
    predictions = predicted(rng, J, S, c, softmax and c > 1)
    candidates = torch.from_numpy(rng.permutation(S)[: data.draw(st.integers(1, S))])
    b = data.draw(st.integers(1, len(candidates)))
    given = nugget(predictions, kind, fraction)
    V, smoothing = dense(predictions, **given)
    batch, gains = select_with_gains(predictions, candidates, b, **given)
    removed = variance_removed(V, greedy_batch(V, candidates, b, smoothing), smoothing)
    assert gains.sum().item() == pytest.approx(removed, rel=1e-8)
    assert variance_removed(V, batch, smoothing) == pytest.approx(removed, rel=1e-8)
    assert worst_regret(V, smoothing, batch, candidates) < 1e-9


@pytest.mark.parametrize("c, softmax", [(1, False), (10, True)])
def test_select_takes_float32_as_it_takes_the_same_numbers_in_float64(rng, c, softmax):
    predictions = predicted(rng, 20, 50, c, softmax).float()
    given = nugget(predictions, "noise", 1e-3)
    batch = select(predictions, torch.arange(50), 15, **given)
    assert batch.tolist() == select(predictions.double(), torch.arange(50), 15, **given).tolist()
    V = covariance(predictions, **given)
    assert V.dtype == torch.float64
    assert batch.tolist() == greedy_batch(V, torch.arange(50), 15).tolist()


def test_each_gain_is_the_expected_improvement_of_its_pick(rng):
    predictions = predicted(rng, 15, 30, 3, softmax=True)
    given = nugget(predictions, "smoothing", 0.01)
    batch, gains = select_with_gains(predictions, torch.arange(30), 8, **given)
    V, smoothing = dense(predictions, **given)
    for n, gain in zip(batch, gains, strict=True):
        expected = expected_improvement(V, n[None], smoothing)
        torch.testing.assert_close(gain[None], expected, rtol=1e-9, atol=0)
        V = condition(V, n.item(), smoothing)


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


def test_units_do_not_matter(rng):
    predictions = predicted(rng, 20, 40, 3)
    batch, gains = select_with_gains(predictions, torch.arange(40), 10, smoothing=0.1)
    for unit in (1e-70, 1e70):
        given = {"smoothing": 0.1 * unit**2}
        scaled = select_with_gains(predictions * unit, torch.arange(40), 10, **given)
        assert scaled[0].equal(batch)
        torch.testing.assert_close(scaled[1] / unit**2, gains)


def test_probabilities_in_c_classes_are_c_minus_one_numbers(rng):
    p = predicted(rng, 20, 40, 2, softmax=True)
    contrast = (p[..., :1] - p[..., 1:]) / 2**0.5
    batch, gains = select_with_gains(p, torch.arange(40), 10, smoothing=1e-3)
    scalar = select_with_gains(contrast, torch.arange(40), 10, smoothing=1e-3)
    assert batch.equal(scalar[0])
    torch.testing.assert_close(gains, scalar[1])
    # As the authors ran it, the sum of the classes has the noise too, and its label takes it away.
    gains = select_with_gains(p, torch.arange(40), 10, noise=1e-3)[1]
    torch.testing.assert_close(gains, 1e-3 + select_with_gains(contrast, batch, 10, noise=1e-3)[1])


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


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"batch_size": 9}, "got batch size 9, wanted 1 to 8"),
        ({"batch_size": 0}, "got batch size 0"),
        ({"noise": 0.1, "smoothing": 0.1}, "wanted one ≥ 0 and the other 0"),
        ({"noise": -0.1}, "wanted one ≥ 0"),
        ({"noise": float("nan")}, "got noise=nan and smoothing=0.0, wanted one ≥ 0"),
        ({"noise": float("inf")}, "got noise=inf"),
        ({"smoothing": float("nan")}, "smoothing=nan, wanted one ≥ 0"),
        ({"candidates": torch.arange(0)}, "got batch size 1, wanted 1 to 0"),
        ({"candidates": torch.tensor([0, 12])}, "got candidates from 0 to 12, wanted positions"),
        ({"candidates": torch.tensor([-1, 2])}, "got candidates from -1 to 2"),
        ({"predictions": torch.ones(1, 12, 1)}, "got predictions from 1 mask, wanted 2 or more"),
        ({"predictions": torch.ones(5, 12, 1) / 0}, "NaN or infinite"),
        ({"predictions": torch.full((5, 12, 1), torch.nan)}, "NaN or infinite"),
    ],
)
def test_select_says_what_is_wrong(wrong, says):
    right = {"predictions": torch.rand(5, 12, 1), "candidates": torch.arange(8), "batch_size": 1}
    with pytest.raises(ValueError, match=says):
        select(**(right | wrong))


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


# Speed


def test_select_needs_no_matrix_of_all_pairs_of_points(rng):
    predictions = torch.from_numpy(rng.standard_normal((10, 200_000, 1)))  # V: 320 GB
    batch, gains = select_with_gains(predictions, torch.arange(200_000), 3, noise=0.1)
    assert len(set(batch.tolist())) == 3 and (gains.diff() < 0).all()


# The same batch whatever it is worked out on


@pytest.mark.parametrize("kind", ["noise", "smoothing"])
def test_the_batch_does_not_depend_on_the_pieces_that_it_is_worked_out_in(rng, monkeypatch, kind):
    predictions, candidates = predicted(rng, 20, 300, 5, softmax=True), torch.arange(0, 300, 2)
    asked = candidates, 12, *((1e-4, 0.0) if kind == "noise" else (0.0, 1e-4))
    whole, gains = select_with_gains(predictions, *asked)
    monkeypatch.setattr(candidate_blocks, "BLOCK", 7 * 4**2)  # seven points, for c - 1 = 4
    parts, in_parts = select_with_gains(predictions, *asked)
    assert parts.tolist() == whole.tolist()
    assert in_parts.numpy() == pytest.approx(gains.numpy(), rel=1e-9)


@pytest.mark.cuda
@pytest.mark.parametrize("c, softmax", [(1, False), (10, True)])
def test_a_gpu_picks_what_the_processor_picks(rng, c, softmax):
    predictions = predicted(rng, 50, 20_000 // c, c, softmax)
    assert predictions.numel() > fast_selection.FEW  # else the processor does it anyway
    candidates = torch.arange(0, 20_000 // c, 2)
    batch, gains = select_with_gains(predictions, candidates, 20, 1e-3)
    there, gains_there = select_with_gains(predictions.cuda(), candidates.cuda(), 20, 1e-3)
    assert there.is_cuda and there.tolist() == batch.tolist()
    assert gains_there.cpu().numpy() == pytest.approx(gains.numpy(), rel=1e-9)
