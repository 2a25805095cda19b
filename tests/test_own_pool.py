"""A batch from any model with dropout is the one that the paper's own parts would pick."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deimos import mc_dropout, networks
from deimos.expected_improvement import covariance, greedy_batch
from deimos.own_pool import dropout_layers, masked_predictions, one_mask, select_batch

HEAD = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2))


def regressor(c=1):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
    return trunk, nn.Sequential(*HEAD, nn.Linear(16, c))


@pytest.fixture
def pool():
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(1))


def predictions(model, pool, at_once=1024, trunk=None):
    return masked_predictions(
        model, dropout_layers(model), pool, trunk, 10, lambda y: y, at_once, 0
    )


def test_every_point_meets_the_same_mask_however_the_pool_is_cut(pool):
    model = nn.Sequential(*regressor())
    whole = predictions(model, pool)
    torch.testing.assert_close(predictions(model, pool, at_once=7), whole)
    turned = predictions(model, pool.flip(0)).flip(1)
    torch.testing.assert_close(turned, whole)
    assert whole.shape == (10, 60, 1) and whole.var(0).min() > 0


def test_a_trunk_that_runs_once_changes_nothing(pool):
    trunk, head = regressor()
    split = predictions(head, pool, trunk=trunk)
    torch.testing.assert_close(split, predictions(nn.Sequential(trunk, head), pool))


@pytest.mark.parametrize("c", [1, 3])
def test_the_batch_is_the_papers_greedy_batch_on_the_same_predictions(pool, c):
    model = nn.Sequential(*regressor(c))
    found = select_batch(model, pool, 8, labelled=[3, 5], noise=0.01, n_masks=10)
    answers = predictions(model, pool)
    answers = answers.softmax(-1) if c > 1 else answers
    candidates = torch.tensor([i for i in range(60) if i not in (3, 5)])
    V = covariance(answers.double(), noise=0.01)
    assert list(found.positions) == greedy_batch(V, candidates, 8).tolist()
    assert found.share()[0] == 1 and sorted(found.share(), reverse=True) == list(found.share())


def test_a_data_loader_an_array_and_a_tensor_give_the_same_batch(pool):
    model = nn.Sequential(*regressor(2))
    loader = DataLoader(TensorDataset(pool, torch.zeros(60)), batch_size=13)
    dicts = [{"x": pool[:30]}, {"x": pool[30:]}]
    found = [select_batch(model, p, 5, n_masks=10) for p in (pool, pool.numpy(), loader, dicts)]
    assert len({one.positions for one in found}) == 1


def test_the_model_is_left_as_it_was(pool):
    model = nn.Sequential(*regressor()).train()
    model[0][1].eval()
    before = [layer.training for layer in model.modules()]
    statistics = model[0][1].running_mean.clone()
    select_batch(model, pool, 3, n_masks=5)
    assert [layer.training for layer in model.modules()] == before
    assert torch.equal(model[0][1].running_mean, statistics)
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.parametrize("layer, shape", [(nn.Dropout(0.4), (5, 6, 7)), (nn.Dropout2d(0.4), (50,))])
def test_masks_are_inverted_and_drop_single_units_or_whole_channels(layer, shape):
    layer.eval()
    x = torch.ones(3, 50, 6, 7) if isinstance(layer, nn.Dropout2d) else torch.ones(3, *shape)
    with one_mask([layer], torch.Generator().manual_seed(0)):
        y = layer(x)
    assert torch.equal(y[0], y[1]) and y.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (y[0] == 0).double().mean().item() == pytest.approx(0.4, abs=0.15)
    if isinstance(layer, nn.Dropout2d):
        assert torch.equal(y, y[:, :, :1, :1].expand_as(y))


def test_more_masks_or_another_seed_are_other_masks(pool):
    model = nn.Sequential(*regressor())
    one, other = (
        masked_predictions(model, dropout_layers(model), pool, None, 4, lambda y: y, 99, seed)
        for seed in (0, 1)
    )
    assert not torch.isclose(one, other).any(dim=1).any()


def test_the_variance_is_that_of_the_papers_own_network():
    network = networks.synthetic_1d(torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 40).unsqueeze(1)
    dense = list(network.dense)
    layers = [part for d in dense for part in (nn.Dropout(network.p), d, nn.ReLU())][:-1]
    twin = nn.Sequential(*network.trunk, *layers)
    ours = masked_predictions(twin, dropout_layers(twin), x, None, 2000, lambda y: y, 99, 0)
    masks = mc_dropout.draw_masks(network, (2000,), torch.Generator().manual_seed(0))
    theirs = mc_dropout.predict(network, mc_dropout.trunk_features(network, x), masks)
    ratio = ours.detach().var(0) / theirs.var(0)
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)


def test_what_cannot_be_picked_from_is_refused(pool):
    model = nn.Sequential(*regressor())
    with pytest.raises(ValueError, match="Linear has no dropout layer"):
        select_batch(nn.Linear(4, 1), pool, 3)
    with pytest.raises(ValueError, match="a batch of 60 cannot be picked from 59 points"):
        select_batch(model, pool, 60, labelled=[0], n_masks=4)
    with pytest.raises(ValueError, match="within 0 and 59"):
        select_batch(model, pool, 3, labelled=[60], n_masks=4)
    with pytest.raises(ValueError, match="NaN|finite"):
        select_batch(model, pool.new_full((9, 4), np.nan), 3, n_masks=4)
