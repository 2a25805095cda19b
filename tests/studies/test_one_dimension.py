"""Fig. 1 as numbers: what is asked for is in the pool, and the new model starts from scratch."""

import pytest
import torch

from deimos.experiment.runs import Schedule
from deimos.models.training import Fit
from deimos.studies import one_dimension
from deimos.tasks import synthetic_1d

SCHEDULE = Schedule(
    batch_size=5, n_initial=70, n_acquired=5, n_candidates=None,
    fit=Fit(40, minibatch=32, decay=0.035), n_masks=20, n_passes=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def columns() -> one_dimension.MetricColumns:
    return one_dimension.acquire_once(synthetic_1d.load_synthetic_1d(), SCHEDULE, noise_share=0.15)


def test_five_different_points_of_the_pool_are_asked_for(columns):
    assert len(set(columns["x_queried"])) == 5
    assert set(columns["x_queried"]) <= set(columns["x_pool"])
    assert not set(columns["x_queried"]) & set(columns["x_labelled"])
    inside = sum(abs(x) <= 3 for x in columns["x_queried"])
    assert columns["queried_in_centre"] == [inside]


def test_the_first_point_asked_for_has_the_largest_expected_improvement(columns):
    assert max(columns["improvement"]) == 1 and min(columns["improvement"]) > 0
    best = columns["improvement"].index(1.0)
    assert columns["x_pool"][best] == columns["x_queried"][0]


def test_the_claimed_ratios_are_those_of_the_curve(columns):
    x, improvement = torch.tensor(columns["x_pool"]), torch.tensor(columns["improvement"])
    sparse = improvement[x.abs() <= 2.5].mean() / improvement[(x >= 2.5) & (x <= 10)].mean()
    assert columns["ei_sparse_over_accurate"][0] == pytest.approx(sparse.item())


def test_the_error_is_that_of_the_mean_curve_before_and_after(columns):
    truth = torch.tensor(columns["y_test"])
    before, after = (
        (torch.tensor(columns[f"mean_{model}"]) - truth).square().mean().item()
        for model in ("before", "after")
    )
    assert columns["mse_before_over_after"][0] == pytest.approx(before / after, rel=1e-4)


def test_the_figure_repeats_to_the_last_bit(columns):
    again = one_dimension.acquire_once(synthetic_1d.load_synthetic_1d(), SCHEDULE, noise_share=0.15)
    assert again == columns
