"""A batch from any model with dropout is the one that the paper's own parts would pick."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deimos.expected_improvement import covariance, greedy_batch
from deimos.models import mc_dropout, networks
from deimos.pool.batches import batches
from deimos.pool.select_batch import enough_masks, prepare, select_batch
from deimos.pool.shared_masks import DropoutPosterior, predict


def regressor(c=1):
    """A trunk with batch normalisation, and a head with dropout."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
    dropping = nn.Dropout(0.3), nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2)
    return trunk, nn.Sequential(*dropping, nn.Linear(16, c))


class Twice(nn.Module):
    """One dropout layer used before each dense layer, as many people write it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(4, 8), nn.Linear(8, 1), nn.Dropout(0.5)

    def forward(self, x):
        return self.second(self.drop(self.first(self.drop(x))))


@pytest.fixture
def pool():
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(1))


def predictions(model, pool, at_once=1024, trunk=None, n_masks=10):
    return predict(model, batches(pool, at_once), trunk, n_masks)


def test_every_point_meets_the_same_mask_however_the_pool_is_cut(pool):
    model = nn.Sequential(*regressor())
    whole = predictions(model, pool)
    torch.testing.assert_close(predictions(model, pool, at_once=7), whole)
    turned = predictions(model, pool.flip(0)).flip(1)
    torch.testing.assert_close(turned, whole)
    assert whole.shape == (10, 60, 1) and whole.var(0).min() > 0


def test_a_trunk_that_runs_once_changes_nothing(pool):
    trunk, head = regressor()
    model = nn.Sequential(trunk, head)
    whole = Counted(model)
    torch.testing.assert_close(predictions(head, pool, trunk=trunk), predictions(whole, pool))
    torch.testing.assert_close(predictions(model, pool), predictions(whole, pool))
    assert whole.calls == 2 * 10


class Counted(nn.Module):
    """A model that is no Sequential, and counts how often it is called on many points."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x):
        self.calls += len(x) > 8  # fewer are those of the checks
        return self.inner(x)


def in_two(model, pool):
    """The trunk and the head that a model is cut into."""
    posterior = DropoutPosterior(model, None, 4, None, 0)
    posterior(pool)
    return posterior.trunk, posterior.head


def test_the_trunk_of_a_sequential_is_found_and_runs_once(pool):
    trunk, head = regressor()
    counted = Counted(trunk)
    model = nn.Sequential(nn.Sequential(counted), head).eval()
    found, rest = in_two(model, pool)
    assert len(found) == 1 and isinstance(rest[0], nn.Dropout)
    counted.calls = 0
    predictions(model, pool, at_once=60)
    assert counted.calls == 1


def test_what_only_looks_like_a_sequential_is_run_whole(pool):
    class Residual(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x.sum(1, keepdim=True)

    trunk, head = regressor()
    hooked = nn.Sequential(*trunk, *head)
    hooked.register_forward_hook(lambda module, inputs, y: 2 * y)
    for model in (Residual(trunk, head), hooked, nn.Sequential(Residual(trunk, head))):
        found, rest = in_two(model.eval(), pool)
        assert found is None
        torch.testing.assert_close(rest(pool), model(pool))


def test_the_papers_networks_are_taken_as_they_are(pool):
    network = networks.Network(nn.Sequential(nn.Linear(4, 8)), (8, 16, 3), p=0.3).eval()
    posterior = DropoutPosterior(network, None, 10, None, 0)
    logits = posterior(pool)
    for masks, answers in zip(posterior.kept, logits, strict=True):
        assert [mask.shape for mask in masks.values()] == [(1, 8), (1, 16)]
        theirs = mc_dropout.predict_shared(network, network.features(pool), [*masks.values()])
        torch.testing.assert_close(answers.softmax(-1), theirs[0])
    assert predictions(network, pool).var(0).min() > 0


@pytest.mark.parametrize("c", [1, 3])
def test_the_batch_is_the_papers_greedy_batch_on_the_same_predictions(pool, c):
    model = nn.Sequential(*regressor(c))
    found = select_batch(model, pool, 8, labelled=[3, 5], noise=0.01, n_masks=10)
    candidates = torch.tensor([i for i in range(60) if i not in (3, 5)])
    V = covariance(predictions(model, pool).double(), noise=0.01)
    assert list(found.positions) == greedy_batch(V, candidates, 8).tolist()
    assert found.share()[0] == 1 and sorted(found.share(), reverse=True) == list(found.share())


def test_points_that_matter_are_weighted_or_a_target_of_their_own(pool):
    model, target = nn.Sequential(*regressor()), torch.randn(25, 4) + 1
    weights, nugget = torch.arange(60.0), {"noise": 0.01, "n_masks": 10}
    both = predictions(model, torch.cat([pool, target])).double()
    own, theirs = weights.double(), torch.ones(25).double()
    for given, of_pool, of_target in (
        ({"weights": weights}, own, None),
        ({"weights": weights.numpy()}, own, None),
        ({"weights": weights.tolist(), "target": target}, own, theirs),
        ({"target": DataLoader(TensorDataset(target), batch_size=9)}, 0 * own, theirs),
    ):
        found = select_batch(model, pool, 8, labelled=[3], **given, **nugget)
        S = 60 if of_target is None else 85
        V, matter = covariance(both[:, :S], 0.01), torch.cat([of_pool, theirs])[:S]
        candidates = torch.tensor([i for i in range(60) if i != 3])
        slow = greedy_batch(V, candidates, 8, weights=matter)
        assert list(found.positions) == slow.tolist()


def test_a_sample_of_the_pool_is_drawn_at_random_and_positions_are_the_pools(pool):
    model, loader = nn.Sequential(*regressor()), DataLoader(TensorDataset(pool), batch_size=13)
    some = {"sample": 20, "n_masks": 10, "noise": 0.01}
    found = prepare(model, pool, labelled=range(30), weights=torch.arange(60.0), **some)
    assert len(found.rows.unique()) == 20 == found.predictions.shape[1]
    torch.testing.assert_close(found.predictions, predictions(model, pool[found.rows]))
    assert (found.rows[found.candidates] >= 30).all() and 0 < len(found.candidates) < 20
    assert found.weights.tolist() == found.rows.tolist()
    assert set(found.pick(3).positions) <= set(found.rows.tolist())
    of_loader = select_batch(model, loader, 5, **some)
    assert of_loader.positions == select_batch(model, pool, 5, **some).positions
    assert not prepare(model, pool, **some, seed=1).rows.equal(found.rows)


def test_a_data_loader_an_array_and_a_tensor_give_the_same_batch(pool, tmp_path):
    model = nn.Sequential(*regressor(2))
    loader = DataLoader(TensorDataset(pool, torch.zeros(60)), batch_size=13)
    dicts = [{"x": pool[:30]}, {"x": pool[30:]}]
    np.save(tmp_path / "pool.npy", pool.numpy().astype(np.float64))
    on_disk = np.load(tmp_path / "pool.npy", mmap_mode="r", allow_pickle=False)
    once = (part for part in pool.split(25))  # can be read once alone
    pools = (pool, pool.numpy(), pool.double(), loader, dicts, on_disk, once)
    found = [select_batch(model, p, 5, n_masks=10) for p in pools]
    assert len({one.positions for one in found}) == 1


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_and_batch_normalisation_as_in_use(pool, training):
    model = nn.Sequential(*regressor()).train(training)
    model[0][1].running_mean += 1
    in_use = predictions(nn.Sequential(*regressor()).eval(), pool)
    model[1][0].eval()
    before = [layer.training for layer in model.modules()]
    statistics = model[0][1].running_mean.clone()
    found = predictions(model, pool, at_once=7)
    torch.testing.assert_close(found, predictions(model, pool))  # no statistics of the batch
    assert not torch.allclose(found, in_use)  # those of training count
    assert [layer.training for layer in model.modules()] == before
    assert torch.equal(model[0][1].running_mean, statistics)
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.parametrize("layer, shape", [(nn.Dropout(0.4), (5, 6, 7)), (nn.Dropout2d(0.4), (50,))])
def test_masks_are_inverted_and_drop_single_units_or_whole_channels(layer, shape):
    x = torch.ones(3, 50, 6, 7) if isinstance(layer, nn.Dropout2d) else torch.ones(3, *shape)
    y = predict(layer, [x], n_masks=2, outputs=lambda y: y)[0].view(x.shape)
    assert torch.equal(y[0], y[1]) and y.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (y[0] == 0).double().mean().item() == pytest.approx(0.4, abs=0.15)
    if isinstance(layer, nn.Dropout2d):
        assert torch.equal(y, y[:, :, :1, :1].expand_as(y))


def test_a_layer_that_is_used_twice_has_a_mask_for_each_use(pool):
    model = Twice().eval()
    posterior = DropoutPosterior(model, None, 2, None, 0)
    answer = posterior(pool)
    first, second = posterior.kept[0].values()
    assert first.shape == (1, 4) and second.shape == (1, 8)
    torch.testing.assert_close(answer[0], model.second(model.first(pool * first) * second))
    assert torch.equal(posterior(pool), answer)  # kept, not drawn again


def test_more_masks_or_another_seed_are_other_masks(pool):
    model = nn.Sequential(*regressor())
    one, other = (predict(model, batches(pool), None, 4, seed=seed) for seed in (0, 1))
    assert not torch.isclose(one, other).any(dim=1).any()


def test_the_variance_is_that_of_the_papers_own_network():
    network = networks.synthetic_1d(torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 40).unsqueeze(1)
    dense = list(network.dense)
    layers = [part for d in dense for part in (nn.Dropout(network.p), d, nn.ReLU())][:-1]
    ours = predictions(nn.Sequential(*network.trunk, *layers), x, n_masks=800)
    masks = mc_dropout.draw_masks(network, (800,), torch.Generator().manual_seed(0))
    theirs = mc_dropout.predict_shared(network, mc_dropout.trunk_features(network, x), masks)
    ratio = ours.detach().var(0) / theirs.var(0)
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("b", "c", "J"), [(1, 1, 50), (96, 1, 96), (25, 2, 50), (50, 10, 400), (20, 10, 180)]
)
def test_a_batch_has_the_masks_that_it_needs(b, c, J):
    assert enough_masks(b, c) == J


def wide(pool):
    return torch.cat([pool, pool], 1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": nn.Linear(4, 1)}, "Linear has no dropout layer"),
        (
            {"model": nn.Sequential(nn.Dropout(0.0))},
            "no dropout layer or function that is switched on",
        ),
        ({"trunk": nn.Dropout(0.5)}, "the trunk has a dropout layer: cut it before"),
        ({"batch_size": 61}, "a batch of 61 cannot be picked from 60 points"),
        ({"batch_size": 60, "labelled": [0]}, "a batch of 60 cannot be picked from 59 points"),
        ({"labelled": [60]}, "within 0 and 59, the pool has 60 points"),
        ({"pool": wide}, r"points, torch.float32 of shape .8,. each .mat1 and mat2"),
        ({"pool": lambda pool: pool.numpy().astype(str)}, "of type <U32, wanted numbers"),
        ({"pool": lambda pool: [["a", "b"]]}, "of type str, wanted numbers in an array"),
        ({"pool": lambda pool: pool[:0]}, "the pool is empty"),
        ({"pool": lambda pool: pool.index_fill(0, torch.tensor(7), torch.nan)}, "row 7 of the"),
        ({"pool": lambda pool: iter([pool]), "sample": 5}, "whose length is known"),
        ({"sample": 61}, "a sample of 61 cannot be drawn from a pool of 60 points"),
        ({"weights": [1.0] * 59}, "got 59 weights for 60 points"),
        ({"weights": [0.0] * 60}, "weights that are negative, not finite or all 0"),
        (
            {"pool": lambda pool: DataLoader(TensorDataset(pool), shuffle=True)},
            "the pool's DataLoader shuffles",
        ),
        ({"outputs": lambda y: y[:3]}, "the model gives 3 rows for 60 points"),
    ],
)
def test_what_cannot_be_picked_from_is_refused_in_one_sentence(pool, wrong, says):
    given = {"model": nn.Sequential(*regressor()), "batch_size": 3, "n_masks": 4} | wrong
    given["pool"] = wrong.get("pool", lambda pool: pool)(pool)
    with pytest.raises(ValueError, match=says) as refusal:
        select_batch(**given)
    assert "\n" not in str(refusal.value)
