"""In baal's own loop, with its data set and wrapper, the batch is the one deimos would pick."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from deimos.acquisition.fast_selection import improvements
from deimos.expected_improvement import select

pytest.importorskip("baal", reason="baal is not there")
from baal.active import ActiveLearningDataset, ActiveLearningLoop
from baal.active.heuristics import BALD, Variance
from baal.bayesian.dropout import MCDropoutModule, patch_module
from baal.modelwrapper import ModelWrapper, TrainingArgs
from baal.utils.array_utils import to_prob

from deimos.pool import shared_masks
from deimos.pool.for_baal import BaalHeuristic, SharedMasks

J, POOL, KNOWN = 12, 60, [4, 17, 31]
ARGS = TrainingArgs(batch_size=16, use_cuda=False, workers=0)


def network(c=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, c))


@pytest.fixture
def dataset():
    g = torch.Generator().manual_seed(1)
    data = ActiveLearningDataset(
        TensorDataset(torch.randn(POOL, 5, generator=g), torch.arange(POOL) % 3)
    )
    data.label(KNOWN)
    return data


def pool(dataset):
    return torch.stack([x for x, *_ in dataset.pool])


def by_deimos(model, x, batch_size, **nugget):
    answers = shared_masks.predict(model, [x], n_masks=J)
    return select(answers, torch.arange(len(x)), batch_size, **nugget).tolist()


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched by baal"])
def test_baals_loop_labels_what_deimos_picks_and_goes_on(dataset, patched):
    model, seen = network(), pool(dataset)
    expected = by_deimos(model, seen, 7, noise=1e-3)
    wrapper = SharedMasks(MCDropoutModule(model) if patched else model, ARGS)
    loop = ActiveLearningLoop(
        dataset,
        wrapper.predict_on_dataset,
        BaalHeuristic(7, noise=1e-3),
        query_size=7,
        iterations=J,
    )
    unlabelled = [i for i in range(POOL) if i not in KNOWN]
    assert loop.step()
    assert np.flatnonzero(dataset.labelled).tolist() == sorted(
        KNOWN + [unlabelled[i] for i in expected]
    )
    while loop.step():  # to the end of the pool, the last batch being smaller
        pass
    assert dataset.labelled.all()


def test_the_ranks_are_deimos_batch_in_order_and_then_the_others(dataset):
    wrapper = SharedMasks(network(), ARGS)
    predictions = wrapper.predict_on_dataset(dataset.pool, iterations=J)
    assert predictions.shape == (POOL - len(KNOWN), 3, J)
    ranks = BaalHeuristic(6, smoothing=1e-3)(predictions)
    picked = by_deimos(wrapper.model, pool(dataset), 6, smoothing=1e-3)
    answers = torch.from_numpy(to_prob(predictions)).permute(2, 0, 1)
    rest = torch.tensor([i for i in range(len(predictions)) if i not in picked])
    left = improvements(answers, rest, torch.tensor(picked), smoothing=1e-3)
    order = rest[left.argsort(descending=True, stable=True)].tolist()
    assert ranks.tolist() == picked + order and order != rest.tolist()
    parts = (part for part in np.array_split(predictions, 4))
    assert BaalHeuristic(6, smoothing=1e-3)(parts).tolist() == ranks.tolist()


def test_regression_is_left_as_it_is(dataset):
    predictions = SharedMasks(network(c=1), ARGS).predict_on_dataset(dataset.pool, iterations=J)
    answers = torch.from_numpy(predictions).permute(2, 0, 1)
    picked = select(answers, torch.arange(len(predictions)), 5, noise=0.01).tolist()
    assert BaalHeuristic(5, noise=0.01)(predictions)[:5].tolist() == picked
    two = np.concatenate([predictions, 2 * predictions], 1)
    answers = torch.from_numpy(two).permute(2, 0, 1)
    picked = select(answers, torch.arange(len(two)), 5, noise=0.01).tolist()
    assert BaalHeuristic(5, noise=0.01, regression=True)(two)[:5].tolist() == picked


def test_shared_masks_serve_baals_own_heuristics(dataset):
    predictions = SharedMasks(network(), ARGS).predict_on_dataset(dataset.pool, iterations=J)
    for heuristic in (BALD(), Variance()):
        assert sorted(heuristic(predictions)) == list(range(len(predictions)))


def test_a_point_that_is_there_twice_is_the_same_in_every_iteration_only_with_shared_masks():
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(2)).repeat(30, 1)
    twins, model = TensorDataset(x, torch.zeros(30)), network()
    shared = SharedMasks(model, ARGS).predict_on_dataset(twins, iterations=J)
    assert np.ptp(shared, axis=0).max() < 1e-6 and np.ptp(shared, axis=2).max() > 0.01
    fresh = ModelWrapper(MCDropoutModule(model), ARGS).predict_on_dataset(twins, iterations=J)
    assert np.ptp(fresh, axis=0).max() > 0.01  # the trap: baal's own masks differ


@pytest.mark.parametrize("patched", [False, True])
def test_a_batch_by_itself_meets_the_masks_of_the_whole(patched):
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(2))
    model = patch_module(network(), inplace=False) if patched else network()
    wrapper = SharedMasks(model, ARGS)
    whole = wrapper.predict_on_dataset(TensorDataset(x, torch.zeros(9)), iterations=J)
    batch = wrapper.predict_on_batch([x[3:6], torch.zeros(3)], iterations=J)
    np.testing.assert_allclose(batch.numpy(), whole[3:6], rtol=1e-4, atol=1e-5)


def test_what_it_cannot_use_is_told_in_a_sentence(dataset):
    with pytest.raises(ValueError, match=r"wanted \[n, classes, iterations\]"):
        BaalHeuristic(2)(np.zeros((4, 3, 5, 5, J)))
    with pytest.raises(ValueError, match="Sequential has no dropout layer"):
        SharedMasks(nn.Sequential(nn.Linear(5, 3)), ARGS).predict_on_dataset(dataset.pool, J)
