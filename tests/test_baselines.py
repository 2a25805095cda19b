"""Baselines pick what their names say, among candidates only, ties to the lowest position."""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from scipy.stats import entropy as scipy_entropy

from deimos import baselines
from deimos.acquisition.beliefs import Beliefs, entropy

METHODS = [baselines.random, baselines.max_variance, baselines.max_entropy, baselines.bald]
SAMPLING = [
    partial(sampling, score=score)
    for sampling in (baselines.power_sampling, baselines.softmax_sampling)
    for score in baselines.SCORES.values()
]


def beliefs(J: int = 7, S: int = 40, c: int = 3) -> Beliefs:
    logits = torch.randn(J, S, c, generator=torch.Generator().manual_seed(0))
    candidates = torch.arange(S)[torch.arange(S) % 4 != 1]
    return Beliefs(candidates, (2 * logits).softmax(-1))


@pytest.mark.parametrize("acquire", METHODS + SAMPLING)
def test_a_batch_holds_different_candidates_only(acquire):
    seen = beliefs()
    batch = acquire(seen, 12, np.random.default_rng(0)).tolist()
    assert len(set(batch)) == 12
    assert set(batch) <= set(seen.candidates.tolist())


@pytest.mark.parametrize("acquire", METHODS + SAMPLING)
def test_more_points_than_candidates_are_refused(acquire):
    with pytest.raises(ValueError, match="a batch of 31 cannot be drawn from 30 candidates"):
        acquire(beliefs(), 31, np.random.default_rng(0))


def test_max_variance_takes_the_largest_sums_of_variances():
    seen = beliefs()
    variance = seen.predictions.double().numpy().var(axis=0, ddof=1).sum(-1)
    wanted = sorted(seen.candidates.tolist(), key=lambda i: -variance[i])[:5]
    assert baselines.max_variance(seen, 5, np.random.default_rng(0)).tolist() == wanted


def test_max_entropy_takes_the_most_uncertain_mean_predictions():
    seen = beliefs()
    uncertainty = scipy_entropy(seen.predictions.double().mean(0).numpy(), axis=-1)
    wanted = sorted(seen.candidates.tolist(), key=lambda i: -uncertainty[i])[:5]
    assert baselines.max_entropy(seen, 5, np.random.default_rng(0)).tolist() == wanted


def test_bald_takes_the_entropy_of_the_mean_less_the_mean_entropy():
    seen = beliefs()
    p = seen.predictions.double().numpy()
    information = scipy_entropy(p.mean(0), axis=-1) - scipy_entropy(p, axis=-1).mean(0)
    wanted = sorted(seen.candidates.tolist(), key=lambda i: -information[i])[:5]
    assert baselines.bald(seen, 5, np.random.default_rng(0)).tolist() == wanted


def test_bald_leaves_alone_what_every_mask_finds_equally_uncertain():
    p = torch.full((2, 3, 2), 0.5)
    p[:, 2] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # certain, and of different minds
    assert baselines.bald(Beliefs(torch.arange(3), p), 2, np.random.default_rng(0)).tolist() == [
        2,
        0,
    ]


def test_a_certain_prediction_has_no_entropy():
    assert entropy(torch.eye(3, dtype=torch.float64)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("acquire", METHODS[1:])
def test_ties_go_to_the_lowest_position_whatever_the_order_of_candidates(acquire):
    same = Beliefs(torch.tensor([8, 2, 5, 3]), torch.full((4, 9, 2), 0.5))
    assert acquire(same, 2, np.random.default_rng(0)).tolist() == [2, 3]


def test_random_is_uniform_over_candidates_and_repeats_with_its_stream():
    seen = Beliefs(torch.tensor([4, 1, 9]))
    rng = np.random.default_rng(0)
    drawn = torch.cat([baselines.random(seen, 1, rng) for _ in range(3000)])
    counts = torch.bincount(drawn, minlength=10)[[4, 1, 9]]
    assert counts.sum() == 3000 and (counts - 1000).abs().max() < 100
    first, again = (baselines.random(seen, 2, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("sampling", "weight"),
    [
        (baselines.power_sampling, lambda s: s**1.5),
        (baselines.softmax_sampling, lambda s: np.exp(1.5 * s)),
    ],
    ids=["power", "softmax"],
)
def test_sampling_draws_one_after_another_without_replacement_in_proportion(sampling, weight):
    scores = torch.tensor([0.2, 5.0, 1.0, 2.0, 0.6]).double()
    candidates, rng, n = [0, 2, 3, 4], np.random.default_rng(0), 6000
    seen = Beliefs(torch.tensor(candidates))
    drawn = [tuple(sampling(seen, 2, rng, lambda _: scores, 1.5).tolist()) for _ in range(n)]
    w = dict(zip(candidates, weight(scores[candidates].numpy()), strict=True))
    total, pairs = sum(w.values()), list(permutations(candidates, 2))
    expected = [n * w[i] / total * w[j] / (total - w[i]) for i, j in pairs]
    assert chisquare([drawn.count(pair) for pair in pairs], expected).pvalue > 0.01


@pytest.mark.parametrize("sampling", [baselines.power_sampling, baselines.softmax_sampling])
@pytest.mark.parametrize(
    ("score", "best"), [("variance", "max_variance"), ("entropy", "max_entropy"), ("bald", "bald")]
)
def test_sampling_with_a_large_beta_takes_the_best(sampling, score, best):
    seen, rng = beliefs(), np.random.default_rng(0)
    drawn = sampling(seen, 6, rng, baselines.SCORES[score], 1e9)
    assert torch.equal(drawn, getattr(baselines, best)(seen, 6, rng))


def test_power_sampling_takes_what_has_nothing_to_tell_last():
    scores = torch.tensor([0.0, 1e-300, -1e-17, 3.0], dtype=torch.float64)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = baselines.power_sampling(Beliefs(torch.arange(4)), 4, rng, lambda _: scores)
        assert sorted(drawn.tolist()[:2]) == [1, 3]
