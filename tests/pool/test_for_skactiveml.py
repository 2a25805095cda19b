"""As scikit-activeml's own strategies are called, the batch is the one deimos would pick."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from deimos.expected_improvement import condition, covariance, expected_improvement, select

pytest.importorskip("skactiveml", reason="scikit-activeml is not there")
from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import CoreSet, UncertaintySampling
from skactiveml.utils import MISSING_LABEL
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from deimos.pool import shared_masks
from deimos.pool.for_skactiveml import PoolStrategy

S, b = 40, 5
NUGGETS = [{"noise": 1e-3}, {"smoothing": 1e-3, "noise": 0.0}]


@pytest.fixture
def data():
    X = np.random.default_rng(0).standard_normal((S, 4)).astype(np.float32)
    y = np.full(S, MISSING_LABEL)
    y[[3, 8, 20, 33]] = [0, 1, 2, 1]
    return X, y


def network(c=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, c))


def predict(model, X):
    x = torch.as_tensor(X, dtype=torch.float32)
    return shared_masks.predict(model, [x], n_masks=12)


@pytest.mark.parametrize("nugget", NUGGETS, ids=["noise", "smoothing"])
@pytest.mark.parametrize("c", [1, 3])
def test_the_batch_is_deimos_own_and_holds_nothing_labelled(data, c, nugget):
    X, y = data
    unlabelled = np.flatnonzero(np.isnan(y))
    found = PoolStrategy(predict, **nugget).query(X, y, network(c), batch_size=b)
    expected = select(predict(network(c), X), torch.from_numpy(unlabelled), b, **nugget)
    assert found.tolist() == expected.tolist()
    assert np.isnan(y[found]).all()


@pytest.mark.parametrize("nugget", NUGGETS, ids=["noise", "smoothing"])
@pytest.mark.parametrize("c", [1, 3])
def test_the_utilities_are_the_expected_improvements_given_the_picks_before(data, c, nugget):
    X, y = data
    found, utilities = PoolStrategy(predict, **nugget).query(
        X, y, network(c), batch_size=b, return_utilities=True
    )
    V = covariance(predict(network(c), X), nugget["noise"])
    assert utilities.shape == (b, S)
    for step, row in enumerate(utilities):
        left = np.setdiff1d(np.flatnonzero(np.isnan(y)), found[:step])
        wanted = np.full(S, np.nan)
        wanted[left] = expected_improvement(V, torch.from_numpy(left), nugget.get("smoothing", 0.0))
        np.testing.assert_allclose(row, wanted, rtol=1e-8)
        assert np.nanargmax(row) == found[step]
        V = condition(V, int(found[step]), nugget.get("smoothing", 0.0))


@pytest.mark.parametrize("candidates", [None, np.array([7, 5, 30, 31, 0]), "rows"])
def test_shapes_are_those_of_scikit_activemls_own_strategies(data, candidates):
    X, y = data
    if isinstance(candidates, str):
        candidates = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    given = {"candidates": candidates, "batch_size": 3, "return_utilities": True}
    ours, utilities = PoolStrategy(predict).query(X, y, network(), **given)
    own, theirs = CoreSet(random_state=0).query(X, y, **given)
    assert ours.shape == own.shape and ours.dtype == own.dtype
    assert utilities.shape == theirs.shape
    assert np.array_equal(np.isnan(utilities[0]), np.isnan(theirs[0]))


def test_candidates_of_their_own_are_picked_as_if_they_were_rows_of_X(data):
    X, y = data
    others = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    found = PoolStrategy(predict, noise=1e-3).query(
        X, y, network(), candidates=others, batch_size=4
    )
    all_of_them = np.concatenate([X, others])
    among, none = S + np.arange(9), np.full(S + 9, MISSING_LABEL)
    again = PoolStrategy(predict, noise=1e-3).query(
        all_of_them, none, network(), candidates=among, batch_size=4
    )
    assert (found + S).tolist() == again.tolist()


def test_it_works_in_their_loop_beside_their_classifier_and_strategies(data):
    X, y = data
    truth, model = (X[:, 0] > 0).astype(float), network(2)
    clf = SklearnClassifier(LogisticRegression(), classes=[0, 1])
    y = np.where(np.isnan(y), np.nan, truth)
    strategies = (
        PoolStrategy(lambda clf, X: predict(model, X)),
        UncertaintySampling(random_state=0),
    )
    for strategy in strategies * 4:
        found = strategy.query(X, y, clf=clf.fit(X, y), batch_size=4)
        assert len(set(found)) == 4 and np.isnan(y[found]).all()
        y[found] = truth[found]
    with pytest.warns(UserWarning, match="larger than number of candidates"):  # theirs
        last = strategies[0].query(X, y, clf=clf.fit(X, y), batch_size=9)
    assert sorted(last) == np.flatnonzero(np.isnan(y)).tolist()


def test_it_keeps_their_conventions_for_strategies():
    strategy = PoolStrategy(predict, noise=0.1, random_state=3)
    assert isinstance(strategy, SingleAnnotatorPoolQueryStrategy)
    assert clone(strategy).get_params() == strategy.get_params()
    ours = inspect.signature(strategy.query).parameters
    assert list(ours) == ["X", "y", "clf", "candidates", "batch_size", "return_utilities"]


def test_predictions_of_another_shape_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match=r"predict gave \(40, 12, 3\) for 40 points, wanted"):
        PoolStrategy(lambda clf, X: predict(clf, X).transpose(0, 1)).query(X, y, network())
