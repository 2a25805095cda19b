"""Calibration sees the initial set and the validation set, and picks what is best on them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

from deimos.experiment import loop
from deimos.experiment.iteration import initial_set
from deimos.experiment.runs import Member, Schedule, Streams
from deimos.models import networks
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.studies import calibration
from deimos.studies.calibration import Trial, calibrate, compare, r_squared
from deimos.tasks.task import Task, hold_out, task_of_repeat

SCHEDULE = Schedule(
    batch_size=4, n_initial=24, n_acquired=4, n_candidates=20, fit=Fit(40, minibatch=8, decay=0.01),
    noise=2e-3, n_masks=8, n_passes=20, seed=3,
)  # fmt: skip
PS, DECAYS = [0.1, 0.3, 0.6], [0.01, 300.0]


def build(n_outputs: int):
    def network(generator: torch.Generator) -> Network:
        built = Network(nn.Sequential(nn.Linear(1, 32), nn.ReLU()), (32, 16, n_outputs), p=0.3)
        networks.initialise(built, generator)
        return built

    return network


@pytest.fixture(scope="module", params=["regression", "classification"])
def task(request) -> Task:
    """A noisy line, or which side of it; ten rows are in no class, the last thirty are the test."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-3, 3, (120, 1))).float()
    y = x[:, 0] - 1 + 0.1 * torch.from_numpy(rng.standard_normal(120)).float()
    y, c = (y, 1) if request.param == "regression" else ((y > 0).long(), 2)
    ids = torch.arange(10, 90)
    return Task("line", x, y, ids, x[90:], y[90:], c, "simulated", "0" * 16)


@pytest.fixture(scope="module")
def found(task):
    return calibrate(task, build(task.n_classes), SCHEDULE, 25, PS, DECAYS)


@pytest.mark.parametrize("c", [1, 3])
def test_r_squared_is_pearsons_where_the_correlation_is_positive_and_else_0(rng, c):
    found = []
    for _ in range(6):
        predictions = torch.from_numpy(3 * rng.standard_normal((9, 12, c)))
        predictions = predictions.softmax(2) if c > 1 else predictions
        y = torch.from_numpy(rng.standard_normal(12) if c == 1 else rng.integers(0, c, 12))
        errors, variances = [], []
        for s in range(12):
            truth = [y[s].item()] if c == 1 else [float(k == y[s]) for k in range(c)]
            outputs = [predictions[:, s, k].numpy() for k in range(c)]
            errors.append(sum((out.mean() - t) ** 2 for out, t in zip(outputs, truth, strict=True)))
            variances.append(sum(out.var(ddof=1) for out in outputs))
        found.append(pearsonr(errors, variances).statistic)
        assert r_squared(predictions, y) == pytest.approx(max(found[-1], 0) ** 2, abs=1e-12)
    assert min(found) < 0 < 0.1 < max(found)


def test_a_model_that_knows_where_it_errs_has_r_squared_1_and_one_that_has_it_backwards_0():
    spread = torch.tensor([1.0, 2.0, 3.0, 4.0])
    predictions = torch.stack([-spread, spread])[:, :, None]  # mean 0, variance 2 spread²
    assert r_squared(predictions, 5 * spread) == pytest.approx(1)
    assert r_squared(predictions, spread.flip(0)) == 0
    assert r_squared(predictions, torch.ones(4)) == 0  # the error is everywhere the same


def test_no_test_point_and_no_row_out_of_play_is_looked_at(task, found):
    x, y = task.x.clone(), task.y.clone()
    x[:10] = x[90:] = float("nan")
    y[:10] = y[90:] = -(10**6)
    poisoned = replace(task, x=x, y=y, test_x=x[90:], test_y=y[90:])
    again = calibrate(poisoned, build(task.n_classes), SCHEDULE, 25, PS, DECAYS)
    assert again == found
    assert all(np.isfinite([t.score, t.r_squared, t.variance]).all() for t in found.trials)


def test_the_validation_set_has_no_labelled_point_and_is_the_same_for_every_trial(
    task, monkeypatch
):
    seen = []

    def look(shown: Task, build, schedule, streams, p: float, decay: float) -> Trial:
        seen.append((shown.x, shown.test_x))
        return Trial(p, decay, 0.0, 0.0, 1.0)

    monkeypatch.setattr(calibration, "_trial", look)
    calibrate(task, build(task.n_classes), SCHEDULE, 55, PS, DECAYS)
    labelled, validation = seen[0]
    assert len(seen) == 4 and len(labelled) == 24 and len(validation) == 55
    assert all(torch.equal(shown, validation) for _, shown in seen)
    shown = set(torch.cat([labelled, validation]).flatten().tolist())
    assert len(shown) == 79 and shown < set(task.x[task.train_ids].flatten().tolist())


def test_the_first_trial_is_the_loops_own_initial_model(task, found):
    initial = initial_set(task, SCHEDULE, 1)
    stream = Streams(SCHEDULE.seed, 1, 0, torch.device("cpu")).numpy("validation")
    _, ids = hold_out(task.train_ids, 25, stream, initial)
    scored = replace(task, test_x=task.x[ids], test_y=task.y[ids])
    first = next(
        iter(loop.active_learning(scored, build(task.n_classes), [Member("random", 1, SCHEDULE)]))
    )
    used = found.trials[0]
    assert (used.p, used.decay) == (0.3, SCHEDULE.fit.decay)
    assert used.score == pytest.approx(first.metrics[f"test/{task.metric}"], rel=1e-5)


def test_c_is_chosen_by_the_score_and_then_p_by_r_squared(task, monkeypatch):
    right_way = 1 if task.better == "higher" else -1
    scores = {0.01: 0.2, 0.0: 0.4, 7.0: 0.9}
    fits = {0.3: 0.5, 0.1: 0.1, 0.6: 0.8}

    def planted(task, build, schedule, streams, p: float, decay: float) -> Trial:
        return Trial(p, decay, right_way * scores[decay], fits[p] if decay == 7.0 else 0.99, 0.05)

    monkeypatch.setattr(calibration, "_trial", planted)
    found = calibrate(task, build(task.n_classes), SCHEDULE, 25, PS, [0.0, 7.0])
    tried = [(0.3, 0.01), (0.3, 0.0), (0.3, 7.0), (0.1, 7.0), (0.6, 7.0)]
    assert [(t.p, t.decay) for t in found.trials] == tried
    assert (found.chosen.p, found.chosen.decay) == (0.6, 7.0)
    low, high = (0.005, 0.01) if task.n_classes == 1 else (0.00005, 0.0005)
    assert found.noises == pytest.approx((low, high))


def test_a_tie_stays_with_the_value_in_use(task, monkeypatch):
    monkeypatch.setattr(
        calibration, "_trial", lambda t, b, s, r, p, decay: Trial(p, decay, 1.0, 0.5, 1.0)
    )
    found = calibrate(task, build(task.n_classes), SCHEDULE, 25, PS, DECAYS)
    assert found.chosen == found.trials[0] == Trial(0.3, SCHEDULE.fit.decay, 1.0, 0.5, 1.0)


def test_an_absurd_weight_decay_flattens_the_predictions_and_is_not_chosen_in_regression(found):
    usual, absurd = (t for t in found.trials if t.p == 0.3)
    assert (usual.decay, absurd.decay) == (0.01, 300.0)
    assert absurd.variance < usual.variance / 2
    if found.metric == "mse":  # accuracy does not see the scale of the logits
        assert absurd.score > 1.1 * usual.score and found.chosen.decay == 0.01


def test_a_higher_dropout_rate_is_really_used_and_gives_other_predictions(found):
    by_p = {t.p: t for t in found.trials if t.decay == found.chosen.decay}
    assert set(by_p) == set(PS)
    assert len({t.variance for t in by_p.values()}) == len(PS)


def test_the_table_has_the_values_in_use_beside_the_chosen_ones(task, found):
    table = compare(found).set_index("setting")
    name, shares = ("τ⁻¹", (0.1, 0.2)) if task.n_classes == 1 else ("τ_s⁻¹", (0.001, 0.01))
    low, high = (share * found.chosen.variance for share in shares)
    assert table.loc[name].tolist() == ["0.002", f"{low:.2g} to {high:.2g}"]
    assert table.loc["dropout rate p"].tolist() == ["0.3", f"{found.chosen.p:.3g}"]
    assert table.loc["weight decay C", "in use"] == "0.01"
    assert pd.DataFrame(found.trials).columns.tolist()[:3] == ["p", "decay", "score"]


@pytest.mark.parametrize(
    "n_validation, n_passes, said",
    [(2, 20, "got 2 and 20"), (25, 1, "got 25 and 1"), (56, 20, "80 rows are too few")],
)
def test_too_few_points_or_passes_are_an_error(task, n_validation, n_passes, said):
    schedule = replace(SCHEDULE, n_passes=n_passes)
    with pytest.raises(ValueError, match=said):
        calibrate(task, build(task.n_classes), schedule, n_validation, PS, DECAYS)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_an_error_before_anything_is_fitted(task, p):
    with pytest.raises(ValueError, match="a dropout rate lies between 0 and 1"):
        calibrate(task, lambda generator: pytest.fail("built"), SCHEDULE, 25, [0.3, p], DECAYS)


def test_where_each_repeat_draws_a_test_set_no_validation_point_is_in_it(task, monkeypatch):
    task = replace(task, test_per_repeat=True)
    seen = []

    def look(shown: Task, build, schedule, streams, p: float, decay: float) -> Trial:
        seen.append(torch.cat([shown.x, shown.test_x]))
        return Trial(p, decay, 0.0, 0.0, 1.0)

    monkeypatch.setattr(calibration, "_trial", look)
    calibrate(task, build(task.n_classes), SCHEDULE, 50, PS, [], repeat=2)
    stream = Streams(SCHEDULE.seed, 2, 0, torch.device("cpu")).numpy("test set")
    tested = task_of_repeat(task, 2, stream).test_x
    assert len(tested) == 30 and not torch.isin(seen[0], tested).any()


def test_another_repeat_has_another_validation_set_and_another_model(task, found):
    other = calibrate(task, build(task.n_classes), SCHEDULE, 25, [], [], repeat=2)
    assert other.trials[0].variance != found.trials[0].variance
