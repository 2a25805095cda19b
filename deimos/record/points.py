"""Points of a run, kept as small files of it: what it began with, is tested on, and said of picks.

`points.json` has the initial ids and what the tests are on: a checksum, or ids where they are drawn
anew in each repeat. `acquired.csv` has a row for each acquired point, its mean prediction before it
was labelled; it is replaced as a whole before the iteration itself is written, so that all that is
recorded has its row. An archive carries both with their run, unless it is written without
artifacts.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from deimos.experiment.runs import Iteration
from deimos.record import queries, store
from deimos.record.queries import MEMBER

BEGINNING = "points.json"
ACQUIRED = "acquired.csv"
_written: dict[str, dict[int, str]] = {}  # what `_rows` would read, by run, of this process' runs


def keep_beginning(
    run_id: str, initial: Sequence[int], test_checksum: str | None, test: Sequence[int] | None
) -> None:
    """Write what a run begins with; the same again where it goes on."""
    content = {"initial_ids": initial, "test_checksum": test_checksum, "test_ids": test}
    store.client().log_text(run_id, json.dumps(content), BEGINNING)


def keep_predictions(iteration: Iteration) -> None:
    """Write the mean predictions of what an iteration acquired, below those of all before it."""
    n, run_id = iteration.n_acquired, iteration.member.run_id
    rows = _written.setdefault(run_id, {})
    if n and n not in rows:  # another process took the run this far
        rows |= _rows(run_id)
    for later in [position for position in rows if position > n]:
        del rows[later]
    picked = zip(iteration.acquired, iteration.mean_predictions, strict=True)
    for position, (id, answer) in enumerate(picked, n + 1):
        rows[position] = f"{position},{id}," + ",".join(f"{value:.9g}" for value in answer)
    outputs = ",".join(f"output_{k}" for k in range(len(iteration.mean_predictions[0])))
    text = "\n".join([f"position,id,{outputs}", *rows.values(), ""])
    store.client().log_text(run_id, text, ACQUIRED)


def initial_ids(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """The ids that each member's repeat began with, in order, in the runs that `table` shows.

    Runs from before these were kept have no rows.
    """
    return _ids("initial_ids", experiment, scale, batch_size, settings)


def held_out_ids(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """The ids that each member's scores are on, where its repeat has a test set of its own."""
    return _ids("test_ids", experiment, scale, batch_size, settings)


def acquired_predictions(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """The mean prediction of each acquired point by the model that picked it, a row an output.

    `position`, from 1, and `id` are those of `acquired_ids`; `output` counts the classes from 0 and
    is 0 in regression, where `value` is in units of the labels. Runs from before these were kept
    have no rows.
    """
    rows = []
    for run in queries.chosen(experiment, scale, batch_size, settings):
        recorded = queries.history(run.info.run_id, queries.IDS)
        for position, row in _rows(run.info.run_id).items():
            _, id, *values = row.split(",")
            if recorded.get(position) == float(id):  # else its iteration was never written
                point = *queries.member(run), position, int(id)
                rows += [(*point, k, float(value)) for k, value in enumerate(values)]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "position", "id", "output", "value"])
    return frame.sort_values([*MEMBER, "position", "output"], ignore_index=True)


def _ids(
    which: str, experiment: str | None, scale: str | None, batch_size: int | None, settings: dict
) -> pd.DataFrame:
    rows = []
    for run in queries.chosen(experiment, scale, batch_size, settings):
        for text in _text(run.info.run_id, BEGINNING):
            rows += [(*queries.member(run), id) for id in json.loads(text)[which] or ()]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "id"])
    return frame.sort_values(MEMBER, kind="stable", ignore_index=True)


def _rows(run_id: str) -> dict[int, str]:
    """The lines of a run's `acquired.csv` below its heading, by position; none if it has none."""
    lines = [line for text in _text(run_id, ACQUIRED) for line in text.split("\n")[1:-1]]
    return {int(line.partition(",")[0]): line for line in lines}


def _text(run_id: str, name: str) -> Iterator[str]:
    """Yield the contents of a run's file, or nothing if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = store.client().download_artifacts(run_id, name, folder)
        except (MlflowException, OSError):
            return
        yield Path(file).read_text(encoding="utf-8")
