"""Tidy tables for the tests: the authors' published curves, and small ones made to order."""

import numpy as np
import pandas as pd

from deimos.tasks.authors import published_curves
from deimos.tracking import Evidence, Origin

PUBLISHED = published_curves()


def published(experiment, batch_size, horizon=None):
    rows = PUBLISHED[(PUBLISHED.experiment == experiment) & (PUBLISHED.batch_size == batch_size)]
    return rows if horizon is None else rows[rows.n_acquired <= horizon]


def curves(scores, repeats=3, metric="mse", **columns):
    """A table of `scores`: method → array [iterations repeats]."""
    rows = [
        (method, repeat + 1, n, value)
        for method, array in scores.items()
        for n, values in enumerate(np.reshape(array, (-1, repeats)))
        for repeat, value in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["method", "repeat", "n_acquired", "value"])
    return table.assign(
        **{"experiment": "splicing", "batch_size": 1, "n_labelled": table.n_acquired + 75,
           "metric": metric, **columns}
    )  # fmt: skip


def simulated(seed=0, iterations=12, repeats=3, between=1.0, effect=0.3):
    rng = np.random.default_rng(seed)
    level = between * rng.standard_normal((iterations, 1))
    noise = rng.standard_normal((2, iterations, repeats))
    return curves({"deimos": level + noise[0], "random": level + noise[1] + effect}, repeats)


def evidence_of(table, **origin):
    """A table as evidence of runs at the paper's scale, or as `origin` says otherwise."""
    plain = dict(
        scale="paper", source="nowhere", stand_in=False, repeats=3, finished=True,
        devices=("a CPU",), precisions=("float32",), torch=("2",), python=("3",), commits=("c",),
        dirty=False, fingerprints=("f",), nugget={}, minutes=1.0,
    )  # fmt: skip
    one = Origin(**(plain | origin))
    return Evidence(table, {name: one for name in table.experiment.unique()})
