"""BatchBALD: exact while it can be, close to that when it samples, and never above log₂ J bits."""

import gc
import math
from itertools import product

import numpy as np
import pytest
import torch
from batchbald_redux.batchbald import get_batchbald_batch

from deimos import baselines
from deimos.acquisition import batchbald, beliefs
from deimos.acquisition.batchbald import batchbald_with_information, saturation
from deimos.acquisition.beliefs import Beliefs


def probabilities(J: int, S: int, c: int, scale: float = 2.0, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(J, S, c, generator=g) + torch.randn(S, c, generator=g)
    return (scale * logits.double()).softmax(-1)


def some(P: torch.Tensor) -> Beliefs:
    """Three quarters of the points as candidates, in no order."""
    order = torch.randperm(P.shape[1], generator=torch.Generator().manual_seed(1))
    return Beliefs(order[order % 4 != 1], P)


def joint_information(P: torch.Tensor, batch: list[int]) -> float:
    """H(y_B) − E_j H(y_B | j) in bits, summed over every configuration as it is written."""
    J, _, c = P.shape
    total = 0.0
    for labels in product(range(c), repeat=len(batch)):
        p = np.prod([P[:, i, y].numpy() for i, y in zip(batch, labels, strict=True)], axis=0)
        total += sum(p_j * math.log2(p_j / p.mean()) for p_j in p if p_j > 0) / J
    return total


@pytest.mark.parametrize("J, S, c, b", [(50, 30, 2, 6), (7, 24, 3, 4), (20, 16, 10, 3)])
def test_the_exact_branch_agrees_with_batchbald_redux(J, S, c, b, rng, monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # theirs collects before every chunk: seconds
    P = probabilities(J, S, c)
    positions, bits = batchbald_with_information(
        Beliefs(torch.arange(S), P), b, rng, n_configurations=c ** (b - 1)
    )
    theirs = get_batchbald_batch(
        P.transpose(0, 1).log(), b, num_samples=c ** (b - 1), dtype=torch.double
    )
    assert positions.tolist() == theirs.indices
    torch.testing.assert_close(
        bits * math.log(2), torch.tensor(theirs.scores, dtype=torch.double), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("certain", [False, True])
def test_each_pick_is_the_one_that_adds_most_to_the_joint_information(certain, rng):
    P = probabilities(5, 12, 3)
    if certain:  # every third label of every other point is impossible under some masks
        P[:3, ::2, 0] = 0
        P[4, :, 1] = 0
        P /= P.sum(-1, keepdim=True)
    seen = some(P)
    positions, bits = batchbald_with_information(seen, 4, rng)
    batch: list[int] = []
    for position, known in zip(positions.tolist(), bits.tolist(), strict=True):
        left = sorted(set(seen.candidates.tolist()) - set(batch))
        scores = [joint_information(P, [*batch, i]) for i in left]
        assert position == left[int(np.argmax(scores))]
        assert known == pytest.approx(max(scores), abs=1e-10)
        batch.append(position)


def test_the_first_point_is_the_one_bald_takes(rng):
    seen = some(probabilities(9, 40, 4))
    first = batchbald.batchbald(seen, 1, rng)
    assert torch.equal(first, baselines.bald(seen, 1, rng))


def drawn(P: torch.Tensor, batch: list[int], n_each: int, rng) -> torch.Tensor:
    """p(j | ŷ) of a sample of configurations of the batch."""
    log_joint = torch.zeros(len(P) * n_each, len(P), dtype=torch.float64)
    for i in batch:
        labels = batchbald.draw_labels(P[:, i], n_each, rng)
        log_joint += P[:, i].log()[:, labels].T
    return log_joint.softmax(1)


def test_the_sampled_gains_have_the_exact_ones_as_their_mean(rng):
    P = probabilities(20, 30, 3)
    H = beliefs.entropy(P)
    batch = [3, 8, 1, 20]
    joint = torch.zeros(1, 20, dtype=torch.float64)
    for i in batch:
        joint = (joint[:, None] + P[:, i].T.log()).flatten(0, 1)
    weights = joint.exp().mean(1)
    exact = batchbald.gains(joint.softmax(1), weights, P, H, torch.float64)[1]
    even = torch.full((200,), 1 / 200, dtype=torch.float64)
    sampled = torch.stack(
        [
            batchbald.gains(drawn(P, batch, 10, rng), even, P, H, torch.float32)[1]
            for _ in range(400)
        ]
    )
    z = (sampled.mean(0) - exact) / (sampled.std(0) / 20)
    assert z.abs().max() < 4 and z.square().mean() < 2


def test_single_precision_moves_a_sampled_gain_by_less_than_the_tolerance(rng):
    P = probabilities(50, 300, 10)
    H = beliefs.entropy(P)
    w = drawn(P, [5, 0, 40, 7, 11], 40, rng)
    even = torch.full((2000,), 1 / 2000, dtype=torch.float64)
    single, double = (
        batchbald.gains(w, even, P, H, dtype)[1] for dtype in (torch.float32, torch.float64)
    )
    assert (single - double).abs().max() < batchbald.GAIN_TOLERANCE[torch.float32]


@pytest.mark.parametrize("c, b", [(2, 10), (3, 7)])
def test_a_sampled_batch_tells_about_what_it_says_and_what_the_exact_one_does(c, b):
    P = probabilities(50, 60, c)
    exact = batchbald_with_information(some(P), b, np.random.default_rng(0), c**b)[1][-1]
    for seed in range(3):
        positions, bits = batchbald_with_information(some(P), b, np.random.default_rng(seed), 500)
        truth = batchbald_with_information(
            Beliefs(positions, P), b, np.random.default_rng(0), c**b
        )[1][-1]
        assert truth > exact - 0.03
        assert (bits[-1] - truth).abs() < 0.06


def authors_scores(P: np.ndarray, batch: list[int], n_configurations: int, rng) -> np.ndarray:
    """Their score of every point, one configuration and one mask after another."""
    J, n, c = P.shape
    masks = rng.integers(J, size=n_configurations) if batch else [0]
    u = rng.random((n_configurations, len(batch))) if batch else [[]]
    scores = np.zeros(n)
    for j, uniform in zip(masks, u, strict=True):
        log_p = np.zeros(J)
        for i, v in zip(batch, uniform, strict=True):
            label = int((np.cumsum(P[j, i])[:-1] <= v).sum())
            log_p += np.log(P[:, i, label])
        w = np.exp(log_p - log_p.max())
        w /= w.sum()
        for i in range(n):
            q = w @ P[:, i]
            scores[i] += -(q * np.log(q)).sum() / len(masks)
    return scores - np.array([-(P[:, i] * np.log(P[:, i])).sum() / J for i in range(n)])


@pytest.mark.parametrize("J, c, scale", [(6, 3, 2.0), (20, 2, 2.0), (5, 4, 12.0)])
def test_the_authors_batch_is_that_of_their_estimator_step_by_step(J, c, scale):
    seen = some(probabilities(J, 24, c, scale).clamp(min=1e-12))
    ours = batchbald.batchbald_authors(seen, 6, np.random.default_rng(4), 300).tolist()
    candidates, rng, batch = seen.candidates.sort().values, np.random.default_rng(4), []
    P = seen.predictions[:, candidates].numpy()
    while len(batch) < 6:
        scores = authors_scores(P, batch, 300, rng)
        scores[batch] = -np.inf
        batch.append(int(scores.argmax()))
    assert ours == candidates[batch].tolist()


def test_the_authors_first_point_is_balds_and_all_their_draws_are_new():
    seen = some(probabilities(9, 40, 4))
    rng = np.random.default_rng(0)
    first = batchbald.batchbald_authors(seen, 1, rng)
    assert torch.equal(first, baselines.bald(seen, 1, rng))
    P = seen.predictions
    drawn = [batchbald.log_joint_anew(P, P.log(), [3, 5], 50, rng) for _ in range(2)]
    assert drawn[0].shape == (50, 9) and not torch.equal(*drawn)


def test_the_authors_scores_have_the_exact_gains_as_their_mean(rng):
    P = probabilities(12, 20, 3)
    H, batch = beliefs.entropy(P), [3, 8, 1]
    joint = torch.zeros(1, 12, dtype=torch.float64)
    for i in batch:
        joint = (joint[:, None] + P[:, i].T.log()).flatten(0, 1)
    exact = batchbald.gains(joint.softmax(1), joint.exp().mean(1), P, H, torch.float64)[1]
    scores = np.stack([authors_scores(P.numpy(), batch, 20, rng) for _ in range(150)])
    z = (scores.mean(0) - exact.numpy()) / (scores.std(0) / 150**0.5)
    assert abs(z).max() < 4 and (z**2).mean() < 2.5


def test_once_the_masks_are_told_apart_the_authors_noise_decides_by_how_entropies_differ():
    P = probabilities(16, 200, 4, scale=1.0, seed=2)
    P[:, 0] = P[:, 1] = 1e-9
    for j in range(16):
        P[j, 0, j // 4] = P[j, 1, j % 4] = 1 - 3e-9
    seen = Beliefs(torch.arange(200), P)
    picks = [
        batchbald.batchbald_authors(seen, 8, np.random.default_rng(seed), 500).tolist()
        for seed in range(6)
    ]
    assert all(set(batch[:2]) == {0, 1} for batch in picks)
    later = torch.tensor([batch[2:] for batch in picks]).flatten()
    assert len(set(later.tolist())) > 12  # chance decides, where ours takes the lowest positions
    spread = beliefs.entropy(P).std(0)  # of a point's entropy over masks
    assert spread[later].mean() > 1.2 * spread[2:].mean()
    ours = batchbald.batchbald(seen, 8, np.random.default_rng(0), 500).tolist()
    assert ours != picks[0]


def test_rows_of_configurations_change_no_authors_batch(monkeypatch):
    seen = some(probabilities(12, 40, 3))
    whole = batchbald.batchbald_authors(seen, 7, np.random.default_rng(0), 100)
    monkeypatch.setattr(batchbald, "ROWS", 7)
    assert torch.equal(batchbald.batchbald_authors(seen, 7, np.random.default_rng(0), 100), whole)


def test_labels_are_drawn_in_the_shares_that_each_mask_predicts(rng):
    p = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0.1, 0, 0.9]], dtype=torch.float64)
    labels = batchbald.draw_labels(p, 20, rng).view(3, 20)
    counts = torch.stack([(labels == y).sum(1) for y in range(3)], 1)
    assert counts.tolist() == [[10, 5, 5], [0, 20, 0], [2, 0, 18]]
    assert labels[0].tolist() != labels[0].sort().values.tolist()


def test_a_batch_says_when_it_has_told_the_mask_and_never_tells_more(rng):
    """Sixteen masks, each certain of its own labels of two points: log₂ 16 bits, and no more."""
    P = probabilities(16, 40, 4, scale=0.1)
    P[:, [7, 30]] = 0
    for j in range(16):
        P[j, 7, j // 4] = P[j, 30, j % 4] = 1
    positions, bits = batchbald_with_information(
        Beliefs(torch.arange(40), P), 6, rng, n_configurations=40
    )
    assert positions.tolist() == [7, 30, 0, 1, 2, 3]  # then all tie at nothing
    torch.testing.assert_close(bits, torch.tensor([2.0, 4, 4, 4, 4, 4]).double())
    assert saturation(bits, 16) == 2
    assert saturation(bits, 17) is None


@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
def test_noise_never_carries_a_batch_above_what_the_masks_can_tell(scale, rng):
    P = probabilities(10, 30, 5, scale).float()
    bits = batchbald_with_information(Beliefs(torch.arange(30), P), 20, rng, 100)[1]
    assert bits.isfinite().all() and bits.min() > 0 and bits.max() <= math.log2(10) + 1e-12


@pytest.mark.parametrize("n_configurations", [30, 10_000])
def test_equal_points_tie_and_the_lowest_position_wins(n_configurations, rng):
    P = probabilities(11, 7, 3).repeat(1, 3, 1)  # position i, i + 7 and i + 14 are one point
    candidates = torch.arange(21).flip(0)[:-1]  # all but 0
    batch = batchbald.batchbald(Beliefs(candidates, P), 6, rng, n_configurations).tolist()
    for k, i in enumerate(batch):
        assert {t for t in range(1, i) if t % 7 == i % 7} <= set(batch[:k])


@pytest.mark.parametrize("n_configurations", [60, 10_000])
def test_a_shuffled_pool_gives_the_same_different_candidates(n_configurations):
    P = probabilities(12, 40, 3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    seen = some(P)
    shuffled = Beliefs(torch.isin(order, seen.candidates).nonzero()[:, 0], P[:, order])
    batch, again = (
        batchbald.batchbald(b, 9, np.random.default_rng(3), n_configurations)
        for b in (seen, shuffled)
    )
    assert order[again].tolist() == batch.tolist()
    assert len(set(batch.tolist())) == 9 and set(batch.tolist()) <= set(seen.candidates.tolist())


def test_blocks_change_nothing(monkeypatch):
    seen = some(probabilities(12, 40, 3))
    whole = batchbald_with_information(seen, 7, np.random.default_rng(0), 100)
    monkeypatch.setattr(batchbald, "BLOCK_SHAPES", {"cpu": (7, 11)})
    parts = batchbald_with_information(seen, 7, np.random.default_rng(0), 100)
    assert torch.equal(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-6)


def test_what_is_no_probability_is_refused(rng):
    P = probabilities(4, 10, 3)
    P[0, 0, 0] = math.nan
    for predictions in (P, torch.randn(4, 10, 1)):
        with pytest.raises(ValueError, match="do not sum to 1"):
            batchbald.batchbald(Beliefs(torch.arange(10), predictions), 2, rng)
    with pytest.raises(ValueError, match="n_configurations=0, wanted 1 or more"):
        batchbald.batchbald(some(probabilities(4, 10, 3)), 2, rng, 0)
    with pytest.raises(ValueError, match="a batch of 9 cannot be drawn from 7 candidates"):
        batchbald.batchbald(some(probabilities(4, 9, 3)), 9, rng)


@pytest.mark.cuda
def test_a_gpu_picks_the_same_batch():
    seen = some(probabilities(50, 200, 4))
    there = Beliefs(seen.candidates.cuda(), seen.predictions.cuda())
    batch, again = (
        batchbald.batchbald(b, 8, np.random.default_rng(0), 2000).tolist() for b in (seen, there)
    )
    assert batch == again
