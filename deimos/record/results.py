"""Measurements read back from the record, as one tidy table; and what was acquired."""

from collections.abc import Mapping

import pandas as pd

from deimos.record import queries, store
from deimos.record.queries import IDS, LABELLED, MEMBER

COLUMNS = {
    "experiment": str,
    "batch_size": int,
    "method": str,
    "repeat": int,
    "n_acquired": int,
    "n_labelled": int,
    "metric": str,
    "value": float,
}


def table(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    metric: str | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """The record as a tidy table with `COLUMNS`: a row for each metric at each step.

    `experiment` is the task ("mnist-7-vs-9"), `metric` its name there ("accuracy"), `settings` any
    other parameter or tag of the runs (`n_candidates=500`). A run that is a variant (`variants.py`)
    has the variant's name for a method. Of an experiment, scale and batch size
    it shows the settings and code that a fleet asked for last, never a mixture; of a member that
    has several runs, the one that came furthest. Scales are never mixed: `ValueError` if `scale` is
    left out and there are several. MLflow reads about 35,000 measurements a second.
    """
    return table_of(queries.chosen(experiment, scale, batch_size, settings), metric)


def table_of(runs: list, metric: str | None = None) -> pd.DataFrame:
    """The tidy table of these runs of the record, of all metrics or of one."""
    rows = [
        (run.info.run_id, key, point.step, point.timestamp, point.value)
        for run in runs
        for key in run.data.metrics
        if metric in (None, metric_name(key)) or key == LABELLED
        for point in store.client().get_metric_history(run.info.run_id, key)
    ]
    values = pd.DataFrame(rows, columns=["run", "metric", "step", "timestamp", "value"])
    return tidy(values, {run.info.run_id: run.data.tags for run in runs})


def tidy(values: pd.DataFrame, tags: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The tidy table of measurements (run, metric, step, timestamp, value) and their runs' tags.

    Where a kernel outlived its kill and measured twice, the later value counts. A simulation has
    an instance a step, which stands in the place of the repeat.
    """
    order = ["run", "metric", "step", "timestamp", "value"]
    values = values.sort_values(order).drop_duplicates(["run", "metric", "step"], keep="last")
    counts = values[values.metric == LABELLED]
    labelled = dict(zip(zip(counts.run, counts.step, strict=True), counts.value, strict=True))
    rows = []
    for row in values[~values.metric.isin([IDS, LABELLED])].itertuples():
        told, at = tags[row.run], (row.run, row.step)
        name, b, method, repeat = queries.member_of(told)
        if told.get("step") == "repeat":
            place = (name, b, method, row.step, b, b)
        elif at in labelled:  # else a copy of the record that is still being written
            place = (name, b, method, repeat, row.step, labelled[at])
        else:
            continue
        rows.append((*place, metric_name(row.metric), row.value))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame.sort_values([*MEMBER, "n_acquired", "metric"], ignore_index=True)


def metric_name(metric: str) -> str:
    """A metric's name in the table: `test/accuracy` is `accuracy`."""
    return metric.rpartition("/")[2]


def acquired_ids(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """Ids that each member acquired, in order (`position` from 1), of the runs in `table`."""
    rows = [
        (*queries.member(run), position, int(id))
        for run in queries.chosen(experiment, scale, batch_size, settings)
        for position, id in queries.history(run.info.run_id, IDS).items()
    ]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "position", "id"])
    return frame.sort_values([*MEMBER, "position"], ignore_index=True)
