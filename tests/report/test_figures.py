"""A figure of learning curves shows where methods differ."""

import numpy as np
import pandas as pd
import pytest
import torch
from tables import curves

from deimos.experiment.methods import by_name
from deimos.report import figures


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", -1), ("mse", 1)])
def test_of_a_long_run_the_start_may_be_cut_off_but_no_later_score(metric, sign):
    rows = [
        (method, n, sign * (1.0 if n == 0 else worse * n / 100))
        for method, worse in (("deimos", 2.0), ("random", -1.0))
        for n in range(40)
    ]
    table = pd.DataFrame(rows, columns=["method", "n_acquired", "value"])
    table = table.assign(experiment="digits", batch_size=1, repeat=1, metric=metric)
    (axes,) = figures.learning_curves(table, "title", table.head(0)).axes
    low, high = sorted(sign * end for end in axes.get_ylim())
    assert low <= -0.39 and 0.78 <= high < 1
    if metric == "accuracy":
        assert axes.get_ylim()[1] == 1


def test_every_method_that_a_notebook_may_be_given_is_drawn_in_a_colour_of_its_own():
    known = [*by_name(0.0, 0.0)]
    table = curves({method: np.full((3, 2), 0.5) for method in known})
    (axes,) = figures.learning_curves(table, "title", table.head(0)).axes
    drawn = {line.get_label(): line.get_color() for line in axes.get_lines()}
    assert len(drawn) == len(known) == len(set(drawn.values()))


@pytest.mark.parametrize("form", [(2, 2), (3, 2, 2)])
@pytest.mark.parametrize("stored", ["bytes", "0 to 255", "0 to 1", "-1 to 1"])
def test_images_are_shown_from_black_to_white_however_their_pixels_are_stored(form, stored):
    """An image is not brightened to its own brightest pixel: a dark one looks dark."""
    n = int(np.prod(form))
    images = torch.stack([torch.full(form, 51.0), torch.linspace(0, 255, n).reshape(form)])
    as_stored = {
        "bytes": images.byte(), "0 to 255": images, "0 to 1": images / 255,
        "-1 to 1": images / 127.5 - 1,
    }  # fmt: skip
    figure = figures.thumbnails(as_stored[stored], ["dark", "all"], columns=2)
    (dark,) = figure.axes[0].get_images()
    np.testing.assert_allclose(dark.to_rgba(dark.get_array())[..., :3], 0.2, atol=0.004)
