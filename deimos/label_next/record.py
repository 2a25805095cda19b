"""A round on files of one's own in the record: one MLflow run, its picks and page as artifacts."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, Metric, Param

from deimos import tracking
from deimos.label_next.points import Points
from deimos.label_next.rounds import Round

COMMAND_EXPERIMENT = "your-own-pool"
ABOUT = "Which points of your own pool to label next: a run a round, its picks and page as files."


def check_record() -> None:
    """Open the record; `ConnectionError` or ValueError if it cannot take a round."""
    tracking.experiment_id(COMMAND_EXPERIMENT)


def log_round(
    found: Round,
    settings: Mapping[str, str | int | float | None],
    data: Mapping[str, Points],
    files: list[Path],
) -> str:
    """Write a round, and return its run's id; step i of the pick's metrics is the i-th pick."""
    client, place = tracking.client(), tracking.experiment_id(COMMAND_EXPERIMENT)
    tracking.set_experiment_tag(place, tracking.NOTE, ABOUT)
    sums = {f"checksum_{name}": points.checksum for name, points in data.items()}
    b, n = len(found.positions), len(data["labelled"].x)
    tags = {"kind": "round", **sums, **tracking.machine(), "mlflow.source.name": "deimos select"}
    tags[tracking.NOTE] = f"{b} of {found.n_open:,} picked with {n:,} labelled."
    run_id = client.create_run(place, tags=tags, run_name=f"{n} labelled · b{b}").info.run_id
    try:
        client.log_batch(run_id, params=[Param(k, str(v)) for k, v in settings.items()])
        inputs = [
            DatasetInput(Dataset(name, points.checksum, "local", json.dumps({"kind": points.kind})))
            for name, points in data.items()
        ]
        tracking.log_inputs(run_id, inputs)
        now = int(time.time() * 1000)
        once = {f"validation/{found.metric}": found.score, "validation/naive": found.naive}
        for name, one in zip(("variance_share", "distance", "kl"), found.comparisons, strict=False):
            once |= {f"batch/{name}": one.picked, f"random_batch/{name}": one.random}
        points = [Metric(name, value, now, n) for name, value in once.items()]
        for rank, (gain, share) in enumerate(zip(found.gains, found.share(), strict=True), 1):
            points += [Metric("pick/expected_improvement", gain, now, rank)]
            points += [Metric("pick/share_of_the_first", share, now, rank)]
        tracking.log_metrics(run_id, points)
        for file in files:
            client.log_artifact(run_id, str(file))
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id
