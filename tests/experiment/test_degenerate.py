"""At the edges every method picks a full batch of different candidates, or says why it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deimos.acquisition import from_skactiveml
from deimos.acquisition.beliefs import Beliefs
from deimos.experiment.methods import by_name

J, S, c = 4, 14, 3
CANDIDATES = torch.arange(2, 13)  # the others are labelled
SAMPLED = ("power_bald", "softmax_variance", "power_entropy")
OWN = ("deimos", "deimos_forward_backward")
PREDICTED = (
    *OWN,
    *SAMPLED,
    "max_variance",
    "max_entropy",
    "bald",
    "batchbald",
    "batchbald_authors",
    "margin",
    "epig",
)
EMBEDDED = ("k_center", "k_center_authors", "greedy_k_center", *from_skactiveml.STRATEGIES)
ALL = (*PREDICTED, *EMBEDDED, "random")


def beliefs(**changes) -> Beliefs:
    g = torch.Generator().manual_seed(0)
    predictions = (2 * torch.randn(J, S, c, generator=g)).softmax(-1)
    features = torch.randn(S, 4, generator=g)
    return replace(Beliefs(CANDIDATES, predictions, features), **changes)


def of_few(n: int) -> Beliefs:
    """Beliefs in which each point comes again after n."""
    seen = beliefs()
    again = torch.arange(S) % n
    return replace(seen, predictions=seen.predictions[:, again], features=seen.features[again])


EDGES = {
    "all alike, no variance": beliefs(
        predictions=torch.full((J, S, c), 1 / 3), features=torch.zeros(S, 4)
    ),
    "certain, no entropy": beliefs(predictions=torch.eye(c)[torch.arange(S) % c].repeat(J, 1, 1)),
    "masks that agree, points that differ": beliefs(
        predictions=beliefs().predictions[:1].repeat(J, 1, 1)
    ),
    "masks that are certain and differ": beliefs(
        predictions=torch.eye(c)[(torch.arange(J)[:, None] + torch.arange(S)) % c]
    ),
    "duplicates": of_few(4),
    "two masks": beliefs(predictions=beliefs().predictions[:2]),
    "probabilities near underflow": beliefs(
        predictions=(
            300 * torch.randn(J, S, c, generator=torch.Generator().manual_seed(1))
        ).softmax(-1)
    ),
    "large features": beliefs(features=1e30 * beliefs().features),
}


BOUND = [
    *((name, 1e-4, 0.0) for name in ALL),
    ("deimos", 0.0, 0.0),
    ("deimos", 0.0, 1e-4),
    ("deimos_forward_backward", 0.0, 1e-4),
    ("deimos_forward_backward", 1e-13, 0.0),
]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 11], ids="b={}".format)  # J is 4, n is 11
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("name", "noise", "smoothing"), BOUND)
def test_a_full_batch_of_different_candidates_is_picked(name, noise, smoothing, edge, batch_size):
    method = by_name(noise, smoothing)[name]
    batch, report = method.acquire(EDGES[edge], batch_size, np.random.default_rng(0))
    assert len(set(batch.tolist())) == batch_size
    assert set(batch.tolist()) <= set(CANDIDATES.tolist())
    assert np.isfinite(list(report.values())).all()
    again, _ = method.acquire(EDGES[edge], batch_size, np.random.default_rng(0))
    assert torch.equal(batch, again)


def acquire(name: str, seen: Beliefs, batch_size: int = 2):
    return by_name(1e-4, 0.0)[name].acquire(seen, batch_size, np.random.default_rng(0))[0]


@pytest.mark.parametrize("name", ALL)
def test_a_candidate_that_is_named_twice_is_picked_once(name):
    seen = beliefs(candidates=torch.tensor([9, 4, 4, 9, 4]))
    assert sorted(acquire(name, seen).tolist()) == [4, 9]
    with pytest.raises(ValueError, match="2"):
        acquire(name, seen, 3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("candidates", [[], [7]], ids=["none", "one"])
def test_fewer_candidates_than_the_batch_are_refused(name, candidates):
    seen = beliefs(candidates=torch.tensor(candidates, dtype=torch.long))
    with pytest.raises(ValueError, match="batch.* 2.*candidate"):
        acquire(name, seen)


@pytest.mark.parametrize("name", PREDICTED)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", [5, 0], ids=["at a candidate", "at a labelled point"])
def test_predictions_that_are_no_numbers_are_refused(name, wrong, where):
    seen = beliefs()
    seen.predictions[3, where, 1] = wrong
    with pytest.raises(ValueError, match="got predictions that"):
        acquire(name, seen)


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [5, 0], ids=["at a candidate", "at a labelled point"])
def test_features_that_are_no_numbers_are_refused(name, wrong, where):
    seen = beliefs()
    seen.features[where, 1] = wrong
    with pytest.raises(ValueError, match="features of all sample points, and finite"):
        acquire(name, seen)


@pytest.mark.parametrize("name", ["deimos", "max_variance", "bald"])
def test_one_mask_alone_has_no_variance_and_is_refused(name):
    with pytest.raises(ValueError, match="got predictions from 1 mask, wanted 2 or more"):
        acquire(name, beliefs(predictions=beliefs().predictions[:1]))
