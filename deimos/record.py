"""Reading the record back: which runs count, how far each came, and all of them as one table.

`client` is an `MlflowClient` and `run` one of its runs; only `tracking.py` imports mlflow.
"""

from typing import Any

import pandas as pd

from deimos.loop import Schedule

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
MEMBER = ["experiment", "batch_size", "method", "repeat"]
ANY_SCALE = "any"  # of simulations: they are the paper's whatever the scale of the notebooks
IDS, LABELLED = "batch/id", "n_labelled"  # the metrics that measure nothing


def search(client: Any, places: list[str], **tags: str) -> list:
    """The runs of the experiments `places` (MLflow's ids) with these tags."""
    where = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    return list(client.search_runs(places, where, max_results=50_000))


def history(client: Any, run_id: str, metric: str) -> dict[int, float]:
    """A metric's value by step; the later one where a kernel outlived its kill and wrote twice."""
    points = client.get_metric_history(run_id, metric)
    points = sorted(points, key=lambda point: (point.step, point.timestamp, point.value))
    return {point.step: point.value for point in points}


def recorded(client: Any, run_id: str, schedule: Schedule) -> tuple[tuple[int, ...], bool]:
    """The ids of a run's whole iterations, in order, and whether its last iteration is there."""
    steps, ids = history(client, run_id, LABELLED), history(client, run_id, IDS)
    n = 0
    while n in steps and n < schedule.n_acquired and n + schedule.batch_size in ids:
        n += schedule.batch_size
    whole = n == schedule.n_acquired and n in steps
    return tuple(int(ids[position]) for position in range(1, n + 1)), whole


def by_progress(runs: list) -> list:
    """Finished runs last, and before them those with most labels; of equals the oldest last."""
    return sorted(
        runs,
        key=lambda run: (
            run.info.status == "FINISHED",
            run.data.metrics.get(LABELLED, 0),
            -run.info.start_time,
            run.info.run_id,
        ),
    )


def member(run: Any) -> tuple[str, int, str, int]:
    """The columns `MEMBER` of a run."""
    tags = run.data.tags
    return tags["experiment"], int(tags["batch_size"]), tags["method"], int(tags["repeat"])


def version(run: Any) -> tuple[str, str]:
    """The settings and the code of a run; those of one fleet agree."""
    return run.data.tags["settings"], run.data.tags["fingerprint"]


def chosen(
    client: Any,
    experiment: str | None,
    scale: str | None,
    batch_size: int | None,
    settings: dict[str, str | int | float],
) -> list:
    """One run a member: of the settings and code asked for last, the one that came furthest."""
    given = {"experiment": experiment, "batch_size": batch_size}
    tags = {tag: str(value) for tag, value in given.items() if value is not None}
    places = [found.experiment_id for found in client.search_experiments(max_results=50_000)]
    runs = search(client, places, kind="run", **tags)
    if scale is not None:
        runs = [run for run in runs if run.data.tags["scale"] in (scale, ANY_SCALE)]
    scales = sorted({run.data.tags["scale"] for run in runs} - {ANY_SCALE})
    if len(scales) > 1:
        raise ValueError(f"{experiment or 'the record'} has runs at scales {scales}: name one")
    for name, value in settings.items():
        facts = [(run, {**run.data.params, **run.data.tags}) for run in runs]
        if facts and not any(name in known for _, known in facts):
            raise ValueError(f"{name} is no parameter or tag of the runs")
        runs = [run for run, known in facts if known.get(name) == str(value)]
    runs.sort(key=lambda run: run.data.tags.get("asked", ""))
    latest = {member(run)[:2]: version(run) for run in runs}
    current = [run for run in runs if version(run) == latest[member(run)[:2]]]
    return list({member(run): run for run in by_progress(current)}.values())


def short(metric: str) -> str:
    """A metric's name in the table: `test/accuracy` is `accuracy`."""
    return metric.rpartition("/")[2]


def tidy(client: Any, runs: list, metric: str | None) -> pd.DataFrame:
    """The measurements of `runs`, sorted; MLflow reads about 35,000 of them a second."""
    rows = []
    for run in runs:
        keys = [
            k for k in run.data.metrics if k not in (IDS, LABELLED) and metric in (None, short(k))
        ]
        labelled = history(client, run.info.run_id, LABELLED) if keys else {}
        for key in keys:
            for n, value in history(client, run.info.run_id, key).items():
                if run.data.tags.get("step") == "repeat":  # a simulation has an instance a step
                    experiment, batch_size, method, _ = member(run)
                    place = (experiment, batch_size, method, n, batch_size, batch_size)
                elif n in labelled:  # else a copy of the record that is still being written
                    place = (*member(run), n, labelled[n])
                else:
                    continue
                rows.append((*place, short(key), value))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame.sort_values([*MEMBER, "n_acquired", "metric"], ignore_index=True)


def ids(client: Any, runs: list) -> pd.DataFrame:
    """What `runs` acquired, in order; positions count from 1."""
    rows = [
        (*member(run), position, int(id))
        for run in runs
        for position, id in history(client, run.info.run_id, IDS).items()
    ]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "position", "id"])
    return frame.sort_values([*MEMBER, "position"], ignore_index=True)


def origin(runs: list) -> dict:
    """The data, code and machines behind `runs`."""
    tags = {
        tag: sorted({run.data.tags[tag] for run in runs})
        for tag in ("scale", "source", "stand_in", "device", "commit", "dirty", "fingerprint")
    }
    return {
        "scale": tags["scale"][0],
        "source": " and ".join(tags["source"]),
        "stand_in": "True" in tags["stand_in"],
        "repeats": max(member(run)[3] for run in runs),
        "finished": all(run.info.status == "FINISHED" for run in runs),
        "devices": tags["device"],
        "commits": tags["commit"],
        "dirty": "True" in tags["dirty"],
        "fingerprints": tags["fingerprint"],
    }
