"""Rivals of today: the library's own picks, with nothing shown that they should not see."""

import numpy as np
import pytest
import torch

from deimos import k_center
from deimos.acquisition.beliefs import Beliefs
from deimos.acquisition.from_skactiveml import STRATEGIES, query


def beliefs(J=6, S=80, c=3, h=5) -> Beliefs:
    g = torch.Generator().manual_seed(0)
    candidates = torch.arange(S)[torch.arange(S) % 4 != 1]
    predictions = (2 * torch.randn(J, S, c, generator=g)).softmax(-1)
    return Beliefs(candidates, predictions, torch.rand(S, h, generator=g))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_holds_different_candidates_and_is_the_same_for_the_same_seed(strategy):
    seen = beliefs()
    batches = [query(seen, 12, np.random.default_rng(3), strategy) for _ in range(2)]
    (first, n_random), (again, _) = [(batch.tolist(), n) for batch, n in batches]
    assert first == again and n_random == 0 and len(set(first)) == 12
    assert set(first) <= set(seen.candidates.tolist())


def test_the_core_set_is_our_own_farthest_first():
    seen = beliefs()
    rng = np.random.default_rng(0)
    ours = k_center.greedy_k_center(seen, 15, rng).tolist()
    assert query(seen, 15, rng, "core_set")[0].tolist() == ours


def test_badge_asks_for_doubtful_points_where_all_features_are_alike():
    """Its gradients are the doubts alone then: points without any have gradients of length 0."""
    sure = torch.eye(3)[torch.arange(80) % 3].expand(6, -1, -1).clone()
    doubtful = torch.tensor([4, 22, 71])
    sure[:, doubtful] = torch.tensor([0.4, 0.35, 0.25])
    sure[:, 22] = torch.tensor([0.25, 0.4, 0.35])
    sure[:, 71] = torch.tensor([0.35, 0.25, 0.4])
    seen = Beliefs(beliefs().candidates, sure, torch.ones(80, 5))
    assert set(query(seen, 3, np.random.default_rng(0), "badge")[0].tolist()) == {4, 22, 71}


def test_a_cluster_that_has_a_label_is_not_asked_for_again():
    """Four clouds, two of which hold labelled points: a batch of two is one of each other."""
    g = torch.Generator().manual_seed(0)
    centres = torch.tensor([[1.0, 0.0, 0], [0, 1.0, 0], [0, 0, 1.0], [-1.0, 0, 0]])
    features = centres[torch.arange(80) % 4] + 0.05 * torch.randn(80, 3, generator=g)
    labelled = torch.tensor([0, 1])
    candidates = torch.tensor([i for i in range(80) if i not in labelled])
    seen = Beliefs(candidates, beliefs().predictions, features)
    for strategy in ("typiclust", "max_herding"):
        picked, _ = query(seen, 2, np.random.default_rng(0), strategy)
        assert sorted((picked % 4).tolist()) == [2, 3], strategy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_features_that_are_missing_or_not_finite_are_refused(strategy):
    seen = beliefs()
    broken = seen.features.clone()
    broken[3, 1] = torch.nan
    for features in (None, broken):
        with pytest.raises(ValueError, match=f"{strategy} needs the features of all sample points"):
            query(
                Beliefs(seen.candidates, seen.predictions, features),
                3,
                np.random.default_rng(0),
                strategy,
            )


def test_chance_fills_up_what_a_strategy_leaves_open_and_that_is_told():
    seen = Beliefs(beliefs().candidates, beliefs().predictions, torch.zeros(80, 5))
    batch, n_random = query(seen, 7, np.random.default_rng(0), "typiclust")
    assert n_random > 0 and len(set(batch.tolist())) == 7
    assert set(batch.tolist()) <= set(seen.candidates.tolist())
