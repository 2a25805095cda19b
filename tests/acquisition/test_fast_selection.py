"""The greedy batch in mask space: the same as the slow twin, whatever the shape and the nugget."""

import numpy as np
import pytest
import torch
from covariances import dense, nugget, predicted, worst_regret
from hypothesis import given, settings
from hypothesis import strategies as st

from deimos.acquisition import candidate_blocks, fast_selection, mask_space, search_state
from deimos.acquisition.fast_selection import batch_improvement, select_with_gains
from deimos.expected_improvement import (
    condition,
    covariance,
    expected_improvement,
    greedy_batch,
    select,
    variance_removed,
)


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


def test_select_needs_no_matrix_of_all_pairs_of_points(rng):
    predictions = torch.from_numpy(rng.standard_normal((10, 200_000, 1)))  # V: 320 GB
    batch, gains = select_with_gains(predictions, torch.arange(200_000), 3, noise=0.1)
    assert len(set(batch.tolist())) == 3 and (gains.diff() < 0).all()


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
    assert predictions.numel() > fast_selection.FEW_PREDICTIONS  # else the processor does it anyway
    candidates = torch.arange(0, 20_000 // c, 2)
    batch, gains = select_with_gains(predictions, candidates, 20, 1e-3)
    there, gains_there = select_with_gains(predictions.cuda(), candidates.cuda(), 20, 1e-3)
    assert there.is_cuda and there.tolist() == batch.tolist()
    assert gains_there.cpu().numpy() == pytest.approx(gains.numpy(), rel=1e-9)


@pytest.mark.parametrize("kind", ["noise", "smoothing"])
@pytest.mark.parametrize("J", [12, 130])  # masks that span fewer directions than classes, and more
def test_a_hundred_classes_are_picked_from_and_gain_as_the_dense_twin_says(rng, J, kind):
    predictions, candidates = predicted(rng, J, 12, 100, True), torch.arange(12)
    given = nugget(predictions, kind, 1e-2)
    V, smoothing = dense(predictions, **given)
    batch, gains = select_with_gains(predictions, candidates, 4, **given)
    slow = greedy_batch(V, candidates, 4, smoothing)
    assert batch.tolist() == slow.tolist()
    removed = [variance_removed(V, slow[:k], smoothing) for k in range(1, 5)]
    assert gains.cumsum(0).tolist() == pytest.approx(removed, rel=1e-8)


@pytest.mark.parametrize("c", [1, 3, 20, 60])
def test_the_batch_is_the_same_to_the_last_bit_on_any_number_of_cores(rng, monkeypatch, c):
    monkeypatch.setattr(mask_space, "PART", 48)
    predictions = predicted(rng, 30, 96, c, c > 1)
    weights, candidates = torch.from_numpy(rng.random(96)), torch.arange(5, 91)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            for given in (
                {"noise": 1e-3},
                {"smoothing": 1e-3},
                {"noise": 1e-3, "weights": weights},
            ):
                found.append(select_with_gains(predictions, candidates, 8, **given))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert len(mask_space.parts_of(predictions)) > 1
    for (batch, gains), (other, others) in zip(found[3:], found[:3] * 2, strict=True):
        assert torch.equal(batch, other) and torch.equal(gains, others)


def test_a_thousand_classes_do_not_recurse(rng):
    predictions = predicted(rng, 8, 6, 1000, True)
    assert len(set(select(predictions, torch.arange(6), 3, noise=1e-4).tolist())) == 3


@pytest.mark.parametrize("nugget", [{"noise": 1e-2}, {"smoothing": 1e-3}, {}])
@pytest.mark.parametrize("among, copies", [(1, 1), (4, 1), (16, 3)])
def test_looking_ahead_saves_readings_and_changes_no_pick(rng, monkeypatch, nugget, among, copies):
    monkeypatch.setattr(mask_space, "PART", 16)
    points = predicted(rng, 8, 48 // copies, 1)
    predictions = torch.cat([points] * copies, 1)
    weights, candidates = torch.from_numpy(rng.random(48)), torch.arange(3, 45)
    asked = predictions, candidates, len(candidates)
    plain = [select_with_gains(*asked, weights=w, **nugget) for w in (None, weights)]
    readings, the_best = [], fast_selection.the_best
    monkeypatch.setattr(fast_selection, "the_best", lambda *a: readings.append(0) or the_best(*a))
    monkeypatch.setattr(fast_selection, "AMONG", among)
    monkeypatch.setattr(search_state, "MANY", 0)
    ahead = [select_with_gains(*asked, weights=w, **nugget) for w in (None, weights)]
    for (batch, gains), (other, others) in zip(plain, ahead, strict=True):
        assert batch.tolist() == other.tolist()
        torch.testing.assert_close(gains, others, rtol=1e-9, atol=1e-12)
    if among == 16 and nugget:  # without one, what is left is worked out afresh at every pick
        assert 0 < len(readings) < 2 * len(candidates) * 0.8
