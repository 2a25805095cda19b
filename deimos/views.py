"""MLflow's UI: how it is started, links into it, and charts saved in it from Python.

The format of a view is undocumented (the UI reads it from the experiment's tags): it is why mlflow
is pinned, and a test decodes it.
"""

import base64
import json
import os
import re
import sys
import time
import zlib
from typing import NoReturn

from deimos import record, store
from deimos.executions import Experiment

TAG = "mlflow.sharedViewState."
RUNS = "/#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
SHARED = "&viewStateShareKey={key}"


def key(name: str) -> str:
    """A view's name as it stands in its tag and its link."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def saved_view(name: str, metric: str, where: str) -> str:
    """The tag's value: `metric` against labels acquired in the runs that match `where`."""
    section = {"uuid": "section", "name": name, "display": True, "isReordered": True}
    chart = {
        "type": "LINE",
        "uuid": "chart",
        "metricSectionId": section["uuid"],
        "isGenerated": False,
        "deleted": False,
        "displayName": f"{name}: {metric.split('/')[-1]} against labels acquired",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "ignoreOutliers": False,
        "range": {},
    }
    state = {
        "searchFilter": where,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "method"}],
        },
        "runsHiddenMode": "SHOW_ALL",  # else ten runs
        "useGroupedValuesInCharts": True,
        "compareRunCharts": [chart],
        "compareRunSections": [section],
        "selectedColumns": [f"tags.`{tag}`" for tag in ("method", "repeat", "scale", "batch_size")],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    envelope = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(envelope)


def view(experiment: Experiment, name: str, task: str, batch_size: int, metric: str) -> str:
    """Save a chart in the UI: `metric` ("test/accuracy") by method in the runs that `table` shows.

    Returns its key. The runs are those of now: an execution writes its views again.
    """
    client = store.client()
    runs = record.chosen(task, experiment.scale, batch_size, {})
    if not runs:
        raise ValueError(f"the record has no runs of {task} at batch size {batch_size} to show")
    settings, fingerprint = record.version(runs[0])
    where = (
        f"tags.settings = '{settings}' and tags.fingerprint = '{fingerprint}'"
        f" and tags.scale = '{experiment.scale}'"
    )
    title = f"{name} ({experiment.scale})"
    tag = TAG + key(title)
    client.set_experiment_tag(experiment.id, tag, saved_view(title, metric, where))
    return key(title)


def links(port: int = 5000) -> list[str]:
    """A line for each notebook and each saved view: its name, and where the UI shows it."""
    uri, lines = store.uri(), []
    host = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    for found in sorted(store.client().search_experiments(), key=lambda found: found.name):
        place = f"{host}{RUNS.format(id=found.experiment_id)}"
        if "mlflow.note.content" in found.tags:
            lines.append(f"{found.name}: {place}")
        for tag in sorted(tag for tag in found.tags if tag.startswith(TAG)):
            name = json.loads(found.tags[tag])["name"]
            lines.append(f"{name}: {place}{SHARED.format(key=tag.removeprefix(TAG))}")
    return lines


def serve(uri: str, artifacts: str | None, port: int) -> NoReturn:
    """Become MLflow's UI, on this machine alone and without what it runs for language models."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--default-artifact-root", artifacts] if artifacts else []
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    fewer = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.execve(sys.executable, command, {**os.environ, **fewer})
