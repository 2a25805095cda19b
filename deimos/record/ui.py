"""MLflow's UI on this machine: how it is served, with pages of our own, and links into it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deimos.record import saved_views, store

RUNS = "/#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
RUN = "/#/experiments/{experiment}/runs/{run}/model-metrics"
SHARED = "&viewStateShareKey={key}"
INSIDE = "mlflow"  # the query that leads past our own page, which stands at the root here


def inside(address: str) -> str:
    """The same address of MLflow's where our own page stands before it."""
    return f"/?{INSIDE}{address.removeprefix('/')}"


def links(port: int = 5000) -> list[str]:
    """A line for each notebook and each saved view: its name, and where the UI shows it."""
    uri, lines = store.uri(), []
    host = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    for found in sorted(store.client().search_experiments(), key=lambda found: found.name):
        place = f"{host}{RUNS.format(id=found.experiment_id)}"
        if store.NOTE in found.tags:
            lines.append(f"{found.name}: {place}")
        for tag in sorted(tag for tag in found.tags if tag.startswith(saved_views.TAG)):
            saved = found.tags[tag]
            if saved_views.runs_of(found.experiment_id, saved):
                name, key = json.loads(saved)["name"], tag.removeprefix(saved_views.TAG)
                lines.append(f"{name}: {place}{SHARED.format(key=key)}")
    return lines


def serve(uri: str, artifacts: str | None, port: int, pages: Sequence[Any] = ()) -> None:
    """MLflow's UI until it is stopped, on this machine alone, and before it `pages` of our own.

    What MLflow runs beside it for language models is left out: its assistant would let whoever
    reaches the port, such as other users of the machine, run commands in our name. `pages` are
    routes (Starlette's); MLflow refuses foreign hosts for them as for its own.
    """
    import uvicorn  # here, since it takes seconds that notebooks need not wait for

    app = application(uri, artifacts, pages)
    print(f"The record is at http://127.0.0.1:{port} until Ctrl-C", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def index() -> Path:
    """MLflow's own first page, as a file."""
    from mlflow import server

    return Path(server.__file__).parent / server.REL_STATIC_DIR / "index.html"


def application(uri: str, artifacts: str | None, pages: Sequence[Any] = ()) -> Any:
    """The ASGI application that `serve` serves."""
    client = store.client()
    default = client.get_experiment_by_name("Default")
    if default is not None and store.NOTE not in default.tags:
        note = "MLflow makes this one; nothing is recorded in it."
        store.set_experiment_tag(default.experiment_id, store.NOTE, note)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    from mlflow import server
    from mlflow.server.assistant.api import assistant_router

    assistant_router.routes.clear()
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = uri
    if artifacts is not None:
        os.environ[server.ARTIFACT_ROOT_ENV_VAR] = artifacts
    from mlflow.server.fastapi_app import app  # which reads the environment

    app.router.routes[:0] = pages
    return app
