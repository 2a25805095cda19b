"""Charts saved in MLflow's UI from Python: the runs that they show, their axes, their names.

The format of a view is undocumented (the UI reads it from the experiment's tags): it is why mlflow
is pinned, and a test decodes it. A view is of runs that are there: none is written or kept without.
"""

import base64
import json
import re
import time
import zlib
from collections.abc import Sequence

from deimos.record import queries, results, store
from deimos.record.executions import Experiment

TAG = "mlflow.sharedViewState."
UNNAMED = "Model metrics"  # what the UI calls the section of metrics without a slash
SIMULATION = "instance/"  # metrics with an instance a step
# Steps of a long run, and which part of it, the first, may be cut off
LONG_VIEW, VIEW_CUT = 25, 0.1


def key(name: str) -> str:
    """A view's name as it stands in its tag and its link."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def group(by: str, value: str) -> str:
    """The UI's name for runs that agree in a tag: their colour is kept by it."""
    return f"tag.{by}.{value}"


def saved_view(
    name: str, metric: str, where: str, runs: list, by: str, points: Sequence[tuple[int, float]]
) -> str:
    """The tag's value: `metric` against labels acquired in the `runs`, which `where` finds.

    A curve is the mean of the runs that agree in the tag `by`; `points` are all (step, value).

    The UI adds a chart of every other metric, in sections by the names before the slash. They come
    after this one, folded.
    """
    steps = "instances" if metric.startswith(SIMULATION) else "labels acquired"
    # The axis says "Step" and the chart the metric's name: what they are stands above them.
    title = f"{results.metric_name(metric)} against {steps}"
    first = {"uuid": "section", "name": title, "display": True}
    first |= {"columns": 1, "cardHeight": 480}
    others = {key.rpartition("/")[0] or UNNAMED for run in runs for key in run.data.metrics}
    sections = [first, *({"uuid": name, "name": name, "display": False} for name in sorted(others))]
    chart = {
        "type": "LINE",
        "uuid": "chart",
        "metricSectionId": first["uuid"],
        "isGenerated": False,
        "deleted": False,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "ignoreOutliers": False,
        "range": _range(metric, points),
    }
    state = {
        "searchFilter": where,
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": by}],
        },
        "groupsExpanded": {group(by, run.data.tags[by]): False for run in runs},
        "runsHiddenMode": "SHOW_ALL",  # else ten runs
        "useGroupedValuesInCharts": True,
        "isAccordionReordered": True,  # else the sections are sorted by name
        "compareRunCharts": [chart],
        "compareRunSections": [section | {"isReordered": False} for section in sections],
        "selectedColumns": [f"tags.`{tag}`" for tag in (by, "repeat", "scale", "batch_size")],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    envelope = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(envelope)


def state_of(saved: str) -> tuple[str, dict]:
    """The name and the state of a view's tag; `ValueError` if it is no such tag."""
    try:
        envelope = json.loads(saved)
        state = zlib.decompress(base64.b64decode(envelope["state"].removeprefix("deflate;")))
        return envelope["name"], json.loads(state)
    except (KeyError, TypeError, zlib.error) as problem:
        raise ValueError(f"a saved view cannot be decoded: {problem!r}") from problem


def _range(metric: str, points: Sequence[tuple[int, float]]) -> dict[str, float]:
    """The part of the plane that the curves are in; left to itself, the UI starts at zero.

    A long run's scores begin far from where methods differ: as in our figures, its first steps may
    be cut off.
    """
    if not points:
        return {}
    steps = {step for step, _ in points}
    left, right = min(steps), max(steps)
    cut = metric.startswith("test/") and len(steps) > LONG_VIEW
    values = [value for step, value in points if not cut or step > left + VIEW_CUT * (right - left)]
    low, high = min(values), max(values)
    x, y = (right - left or 1) / 40, (high - low or 1) / 20
    return {"xMin": left - x, "xMax": right + x, "yMin": low - y, "yMax": high + y}


def _points(metric: str, runs: Sequence) -> list[tuple[int, float]]:
    return [point for run in runs for point in queries.history(run.info.run_id, metric).items()]


def view(experiment: Experiment, name: str, task: str, batch_size: int, metric: str) -> str:
    """Save a chart in the UI: `metric` ("test/accuracy") by method in the runs that `table` shows.

    Or by variant, where the runs are some.

    Returns its key. The runs are those of now: an execution writes its views again.
    """
    runs = queries.chosen(task, experiment.scale, batch_size, {})
    if not runs:
        raise ValueError(f"the record has no runs of {task} at batch size {batch_size} to show")
    return write(experiment.id, f"{name} ({experiment.scale})", metric, runs)


def write(
    experiment: str,
    title: str,
    metric: str,
    runs: Sequence,
    points: Sequence[tuple[int, float]] | None = None,
) -> str:
    """Save a chart of just these runs in the experiment with this id; returns its key.

    A curve is a variant, or a method, or where all have one, a batch size. `points`, all (step,
    value) of the metric, are looked up if whoever calls has not got them.
    """
    methods = {run.data.tags["method"] for run in runs}
    sizes = {run.data.tags["batch_size"] for run in runs}
    by = "method" if len(methods) > 1 or len(sizes) == 1 else "batch_size"
    by = "variant" if "variant" in runs[0].data.tags else by
    points = _points(metric, runs) if points is None else points
    saved = saved_view(title, metric, _filter(experiment, runs), list(runs), by, points)
    store.set_experiment_tag(experiment, TAG + key(title), saved)
    return key(title)


def carry(experiment: str, saved: str, scale: str | None) -> None:
    """Save a view that came with runs from another record, of what is here of its runs.

    At another `scale` than there, filter and name are those of this one. One that shows no run, or
    is here already, is left out.
    """
    name, state = state_of(saved)
    where = state["searchFilter"]
    if scale is not None:
        where = re.sub(r"(tags\.`?scale`? = )'[^']*'", rf"\1'{scale}'", where)
        name = re.sub(r" \(\w+\)$", f" ({scale})", name)
    client = store.client()
    if TAG + key(name) in client.get_experiment(experiment).tags:
        return
    if runs := client.search_runs([experiment], where):
        (chart, *_), (by, *_) = state["compareRunCharts"], state["groupBy"]["groupByKeys"]
        metric = chart["metricKey"]
        again = saved_view(name, metric, where, runs, by["groupByData"], _points(metric, runs))
        store.set_experiment_tag(experiment, TAG + key(name), again)


def runs_of(experiment: str, saved: str) -> list:
    """The runs that a view shows."""
    return store.client().search_runs([experiment], state_of(saved)[1]["searchFilter"])


def prune() -> None:
    """Take away the views that show no run (any more)."""
    client = store.client()
    for found in client.search_experiments(max_results=50_000):
        for tag, saved in found.tags.items():
            if tag.startswith(TAG) and not runs_of(found.experiment_id, saved):
                client.delete_experiment_tag(found.experiment_id, tag)


def _filter(experiment: str, runs: Sequence) -> str:
    """A filter that finds these runs and no others: the tags they share, then what is left out."""
    wanted = {run.info.run_id for run in runs}
    shared = ("experiment", "batch_size", "base", "settings", "fingerprint", "scale")
    where = [
        f"tags.{tag} = '{value}'"
        for tag in shared
        if len(values := {run.data.tags.get(tag) for run in runs}) == 1
        and (value := values.pop()) is not None
    ]
    others = _besides(experiment, where, wanted)
    methods = {run.data.tags["method"] for run in runs}
    left_out = sorted({run.data.tags["method"] for run in others} - methods)
    where += [f"tags.method != '{method}'" for method in left_out]
    others = [run for run in others if run.data.tags["method"] not in left_out]
    if others:
        ids = ", ".join(sorted(f"'{run.info.run_id}'" for run in others))
        where.append(f"attributes.run_id NOT IN ({ids})")
    return " and ".join(where)


def _besides(experiment: str, where: list[str], wanted: set[str]) -> list:
    there = store.client().search_runs([experiment], " and ".join(where), max_results=50_000)
    return [run for run in there if run.info.run_id not in wanted]
