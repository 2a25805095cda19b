"""EPIG as it is defined, label by label; and where a label tells nothing, or everything."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from deimos.acquisition import epig as module
from deimos.acquisition.beliefs import Beliefs
from deimos.acquisition.epig import epig, predictive_information


def predictions(J=5, S=9, c=3, seed=0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(J, S, c, generator=g, dtype=torch.float64)).softmax(-1)


def slowly(p: torch.Tensor, i: int) -> float:
    """The mean over the sample of Σ P(y, y*) log P(y, y*) / (P(y) P(y*)), term by term."""
    J, S, c = p.shape
    gain = 0.0
    for j, y, other in product(range(S), range(c), range(c)):
        both = sum((p[k, i, y] * p[k, j, other]).item() for k in range(J)) / J
        alone = p[:, i, y].mean().item() * p[:, j, other].mean().item()
        gain += both * math.log(both / alone) / S
    return gain


@pytest.mark.parametrize("entries", [1, 100, 2**22])
def test_it_is_the_mean_information_between_two_labels(entries, monkeypatch):
    monkeypatch.setattr(module, "ENTRIES", entries)  # how many points are taken at once
    p, candidates = predictions(), torch.tensor([7, 0, 4])
    found = predictive_information(p, candidates)
    torch.testing.assert_close(found, torch.tensor([slowly(p, i) for i in (7, 0, 4)]).double())


def test_masks_that_agree_leave_nothing_to_learn():
    p = predictions(J=1).expand(4, -1, -1)
    assert predictive_information(p, torch.arange(9)).abs().max() < 1e-12


def test_a_label_that_tells_the_mask_tells_all_labels():
    """Two masks that are certain and differ everywhere: each label is worth one bit."""
    sure = torch.eye(2, dtype=torch.float64)
    p = torch.stack([sure[[0, 1, 0, 1]], sure[[1, 0, 1, 0]]])
    torch.testing.assert_close(
        predictive_information(p, torch.arange(4)), torch.full((4,), math.log(2)).double()
    )


def test_a_batch_is_the_best_candidates_and_ties_go_to_the_lowest():
    p = predictions()[:, [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]]
    candidates = torch.tensor([9, 3, 1, 5, 8])
    gains = {i: slowly(p, i) for i in candidates.tolist()}
    wanted = sorted(gains, key=lambda i: (-round(gains[i], 9), i))[:3]
    found = epig(Beliefs(candidates, p), 3, np.random.default_rng(0)).tolist()
    assert found == wanted


def test_what_says_little_of_the_others_is_left_out():
    """Max. entropy's pick: most uncertain, and by itself. EPIG takes one of the many instead."""
    g = torch.Generator().manual_seed(1)
    together = torch.randint(2, (40, 1), generator=g).expand(-1, 8)
    alone = torch.randint(2, (40, 1), generator=g)
    p = torch.eye(2)[torch.cat([together, alone], 1)] * 0.8 + 0.1
    p[:, 8] = 0.5 + (p[:, 8] - 0.5) * 1.2
    batch = epig(Beliefs(torch.arange(9), p), 1, np.random.default_rng(0))
    assert batch.item() == 0
