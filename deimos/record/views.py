"""MLflow's UI: how it is started, links into it, and charts saved in it from Python.

The format of a view is undocumented (the UI reads it from the experiment's tags): it is why mlflow
is pinned, and a test decodes it.
"""

import base64
import json
import os
import re
import time
import zlib

from deimos.record import reading, store
from deimos.record.executions import Experiment

TAG = "mlflow.sharedViewState."
UNNAMED = "Model metrics"  # what the UI calls the section of metrics without a slash
RUNS = "/#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
SHARED = "&viewStateShareKey={key}"


def key(name: str) -> str:
    """A view's name as it stands in its tag and its link."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def saved_view(name: str, metric: str, where: str, runs: list, by: str = "method") -> str:
    """The tag's value: `metric` against labels acquired in the `runs`, which `where` finds.

    A curve is the mean of the runs that agree in the tag `by`.

    The UI adds a chart of every other metric, in sections by the names before the slash. They come
    after this one, folded.
    """
    what = f"{name}: {metric.rpartition('/')[2]} against labels acquired"
    first = {"uuid": "section", "name": what, "display": True, "columns": 1, "cardHeight": 480}
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
        "range": seen(metric, runs),
    }
    state = {
        "searchFilter": where,
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": by}],
        },
        "groupsExpanded": {f"tag.{by}.{run.data.tags[by]}": False for run in runs},
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


def seen(metric: str, runs: list) -> dict[str, float]:
    """The part of the plane that the curves are in; left to itself, the UI starts at zero."""
    points = [point for run in runs for point in reading.history(run.info.run_id, metric).items()]
    if not points:
        return {}
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    x, y = (right - left or 1) / 40, (high - low or 1) / 20
    return {"xMin": left - x, "xMax": right + x, "yMin": low - y, "yMax": high + y}


def view(experiment: Experiment, name: str, task: str, batch_size: int, metric: str) -> str:
    """Save a chart in the UI: `metric` ("test/accuracy") by method in the runs that `table` shows.

    Or by variant, where the runs are some.

    Returns its key. The runs are those of now: an execution writes its views again.
    """
    client = store.client()
    runs = reading.chosen(task, experiment.scale, batch_size, {})
    if not runs:
        raise ValueError(f"the record has no runs of {task} at batch size {batch_size} to show")
    version, fingerprint = reading.version(runs[0])
    which, by = ("base", "variant") if "variant" in runs[0].data.tags else ("settings", "method")
    where = (
        f"tags.{which} = '{version}' and tags.fingerprint = '{fingerprint}'"
        f" and tags.scale = '{experiment.scale}'"
    )
    title = f"{name} ({experiment.scale})"
    tag = TAG + key(title)
    client.set_experiment_tag(experiment.id, tag, saved_view(title, metric, where, runs, by))
    return key(title)


def links(port: int = 5000) -> list[str]:
    """A line for each notebook and each saved view: its name, and where the UI shows it."""
    uri, lines = store.uri(), []
    host = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    for found in sorted(store.client().search_experiments(), key=lambda found: found.name):
        place = f"{host}{RUNS.format(id=found.experiment_id)}"
        if store.NOTE in found.tags:
            lines.append(f"{found.name}: {place}")
        for tag in sorted(tag for tag in found.tags if tag.startswith(TAG)):
            name = json.loads(found.tags[tag])["name"]
            lines.append(f"{name}: {place}{SHARED.format(key=tag.removeprefix(TAG))}")
    return lines


def serve(uri: str, artifacts: str | None, port: int) -> None:
    """MLflow's UI until it is stopped, on this machine alone.

    What MLflow runs beside it for language models is left out: its assistant would let whoever
    reaches the port, such as other users of the machine, run commands in our name.
    """
    client = store.client()
    default = client.get_experiment_by_name("Default")
    if default is not None and store.NOTE not in default.tags:
        note = "MLflow makes this one; nothing is recorded in it."
        client.set_experiment_tag(default.experiment_id, store.NOTE, note)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # Here, since it takes seconds that notebooks need not wait for.
    import uvicorn
    from mlflow import server
    from mlflow.server.assistant.api import assistant_router

    assistant_router.routes.clear()
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = uri
    if artifacts is not None:
        os.environ[server.ARTIFACT_ROOT_ENV_VAR] = artifacts
    from mlflow.server.fastapi_app import app  # which reads the environment

    print(f"MLflow serves the record at http://127.0.0.1:{port} until Ctrl-C", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
