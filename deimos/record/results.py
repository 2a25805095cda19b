"""What the record says: all measurements as one tidy table, what was acquired, and from where."""

import pandas as pd

from deimos.data import published_curves
from deimos.record import reading, store
from deimos.record.reading import ANY_SCALE, IDS, LABELLED, MEMBER, REFERENCE

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
OTHER_DATA = "not the paper's data"
PAUSE = 5.0  # minutes without any iteration, from which nobody was at work


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
    rows = []
    for run in reading.chosen(experiment, scale, batch_size, settings):
        keys = [
            k for k in run.data.metrics if k not in (IDS, LABELLED) and metric in (None, short(k))
        ]
        labelled = reading.history(run.info.run_id, LABELLED) if keys else {}
        for key in keys:
            for n, value in reading.history(run.info.run_id, key).items():
                if run.data.tags.get("step") == "repeat":  # a simulation has an instance a step
                    name, b, method, _ = reading.member(run)
                    place = (name, b, method, n, b, b)
                elif n in labelled:  # else a copy of the record that is still being written
                    place = (*reading.member(run), n, labelled[n])
                else:
                    continue
                rows.append((*place, short(key), value))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame.sort_values([*MEMBER, "n_acquired", "metric"], ignore_index=True)


def short(metric: str) -> str:
    """A metric's name in the table: `test/accuracy` is `accuracy`."""
    return metric.rpartition("/")[2]


def acquired_ids(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """What each member acquired, in order (`position` from 1), in the runs that `table` shows."""
    rows = [
        (*reading.member(run), position, int(id))
        for run in reading.chosen(experiment, scale, batch_size, settings)
        for position, id in reading.history(run.info.run_id, IDS).items()
    ]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "position", "id"])
    return frame.sort_values([*MEMBER, "position"], ignore_index=True)


def provenance(experiment: str, scale: str | None = None) -> dict:
    """Data, code and machines behind `table(experiment, scale)`; `ValueError` if it is empty."""
    runs = reading.chosen(experiment, scale, None, {})
    if not runs:
        raise ValueError(f"the record has no runs of {experiment} at scale {scale or 'any'}")
    return _origin(runs) | {"minutes": _minutes(runs)}


def minutes(scale: str, **settings: str | int | float) -> float:
    """How long all runs at a scale took together, of those with these parameters or tags."""
    return _minutes(reading.chosen(None, scale, None, settings))


def _origin(runs: list) -> dict:
    tags = {
        tag: sorted({run.data.tags[tag] for run in runs})
        for tag in ("scale", "source", "stand_in", "device", "commit", "dirty", "fingerprint")
    }
    return {
        "scale": tags["scale"][0],
        "source": " and ".join(tags["source"]),
        "stand_in": "True" in tags["stand_in"],
        "repeats": max(reading.member(run)[3] for run in runs),
        "finished": all(reading.is_finished(run) for run in runs),
        "devices": tags["device"],
        "commits": tags["commit"],
        "dirty": "True" in tags["dirty"],
        "fingerprints": tags["fingerprint"],
    }


def _minutes(runs: list) -> float:
    """How long they took, all in all: the pauses between sittings are left out."""
    times = [run.info.start_time for run in runs]
    for run in runs:
        points = store.client().get_metric_history(run.info.run_id, LABELLED)
        times += [point.timestamp for point in points]
    steps = pd.Series(sorted(times)).diff() / 60_000
    return float(steps[steps < PAUSE].sum())


def notes(scale: str) -> dict[str, str]:
    """What must stand in a figure's title, by experiment: its scale and where the data are from."""
    said = {}
    for name, came in _origins(scale).items():
        size = {ANY_SCALE: [], REFERENCE: ["our kept runs"]}.get(
            came["scale"], [f"{came['scale']} scale"]
        )
        said[name] = ", ".join([*size, came["source"]])
    return said


def doubts(scale: str) -> dict[str, tuple[str, ...]]:
    """Why the runs of an experiment, at this scale, cannot decide a claim; nothing if they can."""
    said = {}
    for name, came in _origins(scale).items():
        small = (f"{came['scale']} scale",) if came["scale"] in ("quick", "smoke") else ()
        said[name] = (*small, *((OTHER_DATA,) if came["stand_in"] else ()))
    return said


def published(scale: str) -> pd.DataFrame:
    """The authors' curves, without those of experiments whose runs here are on other data."""
    other = [name for name, came in _origins(scale).items() if came["stand_in"]]
    curves = published_curves()
    return curves[~curves.experiment.isin(other)]


def _origins(scale: str) -> dict[str, dict]:
    """The provenance of every experiment that has runs at this scale, of one look at the record."""
    runs: dict[str, list] = {}
    for run in reading.chosen(None, scale, None, {}):
        runs.setdefault(reading.member(run)[0], []).append(run)
    return {name: _origin(runs[name]) for name in sorted(runs)}
