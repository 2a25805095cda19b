"""Points of a run, kept as small files of it: what it began with, is tested on, and said of picks.

`points.json` has the initial ids and what the tests are on: a checksum, or ids where they are drawn
anew in each repeat. `acquired/0.csv` and `acquired/1.csv` have a row for each acquired point, its
mean prediction before it was labelled. They are written in turn, each whole, before the iteration
itself: a kill leaves one of them with all that is recorded. An archive carries them all with its
run, unless it is written without artifacts.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from deimos.members import Iteration
from deimos.record import reading, store
from deimos.record.reading import MEMBER

BEGINNING = "points.json"
IN_TURN = ("acquired/0.csv", "acquired/1.csv")


def keep_beginning(
    run_id: str, initial: Sequence[int], test_checksum: str | None, test: Sequence[int] | None
) -> None:
    """Write what a run begins with; the same again where it goes on."""
    content = {"initial_ids": initial, "test_checksum": test_checksum, "test_ids": test}
    store.client().log_text(run_id, json.dumps(content), BEGINNING)


def keep_predictions(iteration: Iteration) -> None:
    """Write the mean predictions of what an iteration acquired, below those of all before it."""
    n, member = iteration.n_acquired, iteration.member
    turn = n // member.schedule.batch_size
    before = _rows(member.run_id, IN_TURN[(turn - 1) % 2]) if n else []
    rows = [row for row in before if int(row.partition(",")[0]) <= n]
    picked = zip(iteration.acquired, iteration.mean_predictions, strict=True)
    for position, (id, answer) in enumerate(picked, n + 1):
        rows.append(f"{position},{id}," + ",".join(f"{value:.9g}" for value in answer))
    outputs = ",".join(f"output_{k}" for k in range(len(iteration.mean_predictions[0])))
    text = "\n".join([f"position,id,{outputs}", *rows, ""])
    store.client().log_text(member.run_id, text, IN_TURN[turn % 2])


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
    for run in reading.chosen(experiment, scale, batch_size, settings):
        recorded = reading.history(run.info.run_id, reading.IDS)
        kept: dict[int, list[str]] = {}
        for name in IN_TURN:
            for row in _rows(run.info.run_id, name):
                position, id, *values = row.split(",")
                if recorded.get(int(position)) == float(id):
                    kept[int(position)] = values
        for position, values in kept.items():
            point = *reading.member(run), position, int(recorded[position])
            rows += [(*point, k, float(value)) for k, value in enumerate(values)]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "position", "id", "output", "value"])
    return frame.sort_values([*MEMBER, "position", "output"], ignore_index=True)


def _ids(
    which: str, experiment: str | None, scale: str | None, batch_size: int | None, settings: dict
) -> pd.DataFrame:
    rows = []
    for run in reading.chosen(experiment, scale, batch_size, settings):
        for text in _text(run.info.run_id, BEGINNING):
            rows += [(*reading.member(run), id) for id in json.loads(text)[which] or ()]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "id"])
    return frame.sort_values(MEMBER, kind="stable", ignore_index=True)


def _rows(run_id: str, name: str) -> list[str]:
    """The whole lines of a table below its heading; none if it is not there."""
    return [row for text in _text(run_id, name) for row in text.split("\n")[1:-1]]


def _text(run_id: str, name: str) -> Iterator[str]:
    """What a file of a run says, once; or never, if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = store.client().download_artifacts(run_id, name, folder)
        except (MlflowException, OSError):
            return
        yield Path(file).read_text(encoding="utf-8")
