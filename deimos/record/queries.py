"""Reading the record back: which runs count, and how far each of them came."""

from collections.abc import Mapping
from typing import Any

from deimos.experiment.runs import Schedule
from deimos.record import store

MEMBER = ["experiment", "batch_size", "method", "repeat"]
REFERENCE = "reference"  # of the runs that the repository keeps: apart from all others
ANY_SCALE = "any"  # of simulations: they are the paper's whatever the scale of the notebooks
LAST_NOTEBOOK = "99-figures-and-tables"  # which reads the record, and runs nothing
IDS, LABELLED = "batch/id", "n_labelled"  # the metrics that measure nothing


def search(places: list[str] | None = None, status: str | None = None, **tags: str) -> list:
    """The runs with these tags, of the experiments `places` (MLflow's ids) or else of all."""
    client = store.client()
    if places is None:
        places = [found.experiment_id for found in client.search_experiments(max_results=50_000)]
    where = [f"tags.`{tag}` = '{value}'" for tag, value in tags.items()]
    where += [f"attributes.status = '{status}'"] if status else []
    return list(client.search_runs(places, " and ".join(where), max_results=50_000))


def history(run_id: str, metric: str) -> dict[int, float]:
    """A metric's value by step; the later one where a kernel outlived its kill and wrote twice."""
    points = store.client().get_metric_history(run_id, metric)
    points = sorted(points, key=lambda point: (point.step, point.timestamp, point.value))
    return {point.step: point.value for point in points}


def recorded(run_id: str, schedule: Schedule) -> tuple[tuple[int, ...], bool]:
    """The ids of a run's whole iterations, in order, and whether its last iteration is there."""
    steps, ids = history(run_id, LABELLED), history(run_id, IDS)
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
            is_finished(run),
            run.data.metrics.get(LABELLED, 0),
            -run.info.start_time,
            run.info.run_id,
        ),
    )


def member(run: Any) -> tuple[str, int, str, int]:
    """The columns `MEMBER` of a run; a variant stands in the place of its method."""
    return member_of(run.data.tags)


def member_of(tags: Mapping[str, str]) -> tuple[str, int, str, int]:
    """The columns `MEMBER` of the run that has these tags."""
    method = tags.get("variant", tags["method"])
    return tags["experiment"], int(tags["batch_size"]), method, int(tags["repeat"])


def is_finished(run: Any) -> bool:
    """True if a run's status says that it has come to its end."""
    return run.info.status == "FINISHED"


def version(run: Any) -> tuple[str, str]:
    """The settings and the code of a run; those of one fleet agree, and variants of one base."""
    tags = run.data.tags
    return tags.get("base", tags["settings"]), tags["fingerprint"]


def own_scales() -> list[str]:
    """The scales at which notebooks were run here, the latest first; not that of the kept runs."""
    runs = [*search(kind="run"), *search(kind="execution")]
    runs.sort(key=lambda run: run.info.start_time, reverse=True)
    scales = dict.fromkeys(
        run.data.tags["scale"] for run in runs if run.data.tags.get("notebook") != LAST_NOTEBOOK
    )
    return [scale for scale in scales if scale not in (REFERENCE, ANY_SCALE)]


def chosen(
    experiment: str | None,
    scale: str | None,
    batch_size: int | None,
    settings: dict[str, str | int | float],
) -> list:
    """One run a member: of the settings and code asked for last, the one that came furthest."""
    given = {"experiment": experiment, "batch_size": batch_size}
    tags = {tag: str(value) for tag, value in given.items() if value is not None}
    runs = search(kind="run", **tags)
    runs = [run for run in runs if _is_at(scale, run.data.tags["scale"])]
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


def _is_at(scale: str | None, own: str) -> bool:
    """True if a run at the scale `own` is shown at `scale`; the kept runs only at their own."""
    if REFERENCE in (scale, own):
        return scale == own
    return scale is None or own in (scale, ANY_SCALE)
