"""What a worker does: a notebook's code down to its fleets, for one slice of them."""

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from deimos.extras import extra
from deimos.provenance import code_fingerprint
from deimos.record import executions, store
from deimos.slices import Slice

with extra("reproduce"):
    from mlflow.exceptions import MlflowException


@dataclass(frozen=True)
class Task:
    """All that a worker must be told; the notebook's code travels with it, its data do not."""

    notebook: Path
    scale: str
    part: Slice
    cells: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]  # not by Ray's own way, which logs passwords
    fingerprint: str
    host: str | None  # the only one that has the record, if it is a file

    def __str__(self) -> str:
        return f"{self.notebook.stem} · {self.part}"


@dataclass(frozen=True)
class Outcome:
    """How a task went: nothing is said of one that finished; one may be worth another try."""

    said: str = ""
    again: bool = False
    node: str = ""


def work(task: Task) -> Outcome:
    """Run one slice in this process, as an execution of its own, which is seen until it finishes.

    Its runs say all that such an execution would: one that finished would only stand in the way.
    """
    os.environ.update(task.environment)
    here = socket.gethostname()
    if task.host not in (None, here):
        return Outcome(one_machine(f"{task.host} and {here}"))
    if code_fingerprint() != task.fingerprint:
        return Outcome(f"{here} has other code of deimos: install the same commit on every node")
    run_id, status = None, "stopped"
    # Ray's way to stop a task does not wake a main thread that waits for others: this does.
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        run_id = executions.open_execution(task.notebook.stem, task.scale, task.part)
        os.environ["DEIMOS_EXECUTION"] = run_id
        names: dict[str, object] = {"display": print}
        for n, source in enumerate(task.cells, 1):
            exec(compile(source, f"{task.notebook.name}, part {n}", "exec"), names)
        status = "finished"
        return Outcome(node=here)
    except Exception as problem:  # where each is reported, as in `reproduce.execute`
        status = "failed"
        lost = isinstance(problem, (ConnectionError, MlflowException))
        return Outcome(f"{type(problem).__name__}: {store.why(problem)}", lost, here)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        os.environ.pop("DEIMOS_EXECUTION", None)
        if run_id is not None:
            executions.close_execution(run_id, status)
            if status == "finished":
                store.client().delete_run(run_id)


def one_machine(others: str) -> str:
    """Why an SQLite record is refused beyond one machine."""
    return (
        f"the record is a file and Ray spans several machines ({others}): name an MLflow server "
        "that all of them reach, as MLFLOW_TRACKING_URI=http://..."
    )
