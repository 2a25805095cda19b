"""The fleets of notebooks as tasks on every GPU that Ray sees: `make reproduce ENGINE=ray`.

    python -m deimos.execution.ray_engine notebooks/04-mnist-7-vs-9.ipynb --gpus-per-task 0.5

A task runs a notebook's code down to its fleets, for one slice of them. When a notebook's slices
are done, it is executed here as ever: it finds its runs finished, and draws. A task whose worker or
node is lost is given to another, which goes on after the last whole iteration in the record; should
Ray run one twice, the claims beside the record let only one of them work.
"""

import argparse
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deimos import tracking
from deimos.execution import notebooks
from deimos.execution.parameters import parameters_for
from deimos.experiment.runs import Slice
from deimos.extras import extra

with extra("reproduce"):
    import nbformat
    from mlflow.exceptions import MlflowException

INSTALL = 'ENGINE=ray needs Ray: python -m pip install -e ".[ray]", in the environment of deimos'
RETRIES = 5  # of a task whose worker, node or record was lost
STOP_PATIENCE = 20.0  # seconds that tasks have to end in, once told to


@dataclass(frozen=True)
class RayTask:
    """A worker's instructions; the notebook's code travels with them, its data do not."""

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
class RayOutcome:
    """Outcome of a task: an empty sentence if it finished; `again` if another try may help."""

    said: str = ""
    again: bool = False
    node: str = ""


def work(task: RayTask) -> RayOutcome:
    """Run one slice in this process, as an execution of its own, which is seen until it finishes.

    Its runs say all that such an execution would: one that finished would only stand in the way.
    """
    os.environ.update(task.environment)
    here = socket.gethostname()
    if task.host not in (None, here):
        return RayOutcome(one_machine(f"{task.host} and {here}"))
    if tracking.code_fingerprint() != task.fingerprint:
        return RayOutcome(f"{here} has other code of deimos: install the same commit on every node")
    run_id, status = None, "stopped"
    # Ray's way to stop a task does not wake a main thread that waits for others: this does.
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        run_id = tracking.open_execution(task.notebook.stem, task.scale, task.part)
        os.environ["DEIMOS_EXECUTION"] = run_id
        run_cells(task.notebook, task.cells)
        status = "finished"
        return RayOutcome(node=here)
    except Exception as problem:  # where each is reported, as in `reproduce.execute`
        status = "failed"
        lost = isinstance(problem, (ConnectionError, MlflowException))
        return RayOutcome(f"{type(problem).__name__}: {tracking.why(problem)}", lost, here)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        os.environ.pop("DEIMOS_EXECUTION", None)
        if run_id is not None:
            tracking.close_execution(run_id, status)
            if status == "finished":
                tracking.client().delete_run(run_id)


def one_machine(others: str) -> str:
    """Explain why an SQLite record is refused beyond one machine."""
    return (
        f"the record is a file and Ray spans several machines ({others}): name an MLflow server "
        "that all of them reach, as MLFLOW_TRACKING_URI=http://..."
    )


def plan(notebook: Path, scale: str, cells: Sequence[str]) -> list[Slice]:
    """A slice for each member of the notebook's fleets, by repeat; none if it has no fleet.

    The cells run here, with fleets that have nothing to do. An error is theirs to raise.
    """
    if "tracking.fleet" not in cells[-1]:  # it computes in that cell, which is no plan
        return []
    run_id = tracking.open_execution(notebook.stem, scale)
    os.environ["DEIMOS_EXECUTION"] = run_id
    try:
        with tracking.planning() as slices:
            run_cells(notebook, cells)
    finally:
        del os.environ["DEIMOS_EXECUTION"]
        tracking.close_execution(run_id, "finished")
        tracking.client().delete_run(run_id)
    return sorted(dict.fromkeys(slices), key=lambda part: part.repeats)


def run_cells(notebook: Path, cells: Sequence[str]) -> None:
    """Run a notebook's cells in this process."""
    names: dict[str, object] = {"display": print}
    for n, source in enumerate(cells, 1):
        exec(compile(source, f"{notebook.name}, part {n}", "exec"), names)


def code(notebook: Path, parameters: dict[str, object]) -> tuple[str, ...]:
    """The notebook's cells with these parameters, down to the one that runs its fleets."""
    sources = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            sources.append(cell.source)
            if "parameters" in cell.metadata.get("tags", []):
                sources.append("\n".join(f"{k} = {v!r}" for k, v in parameters.items()))
            if cell.source.startswith("# Run"):
                return tuple(sources)
    raise ValueError(f"{notebook.name} has no cell that begins with # Run: ENGINE=ray needs it")


def tasks_of(notebook: Path, scale: str, repeats: int | None) -> list[RayTask]:
    """Tasks of one notebook; none if it cannot be planned, which its execution then reports."""
    try:
        cells = code(notebook, parameters_for(notebook, scale, repeats))
        parts = plan(notebook, scale, cells)
    except Exception:  # a wrong parameter, data that are missing: its execution has the same
        return []
    record = tracking.store_uri()  # which takes the password out of the environment's own
    ours = {k: v for k, v in os.environ.items() if k.startswith(("MLFLOW_", "DEIMOS_"))}
    environment = tuple((ours | {"MLFLOW_TRACKING_URI": record}).items())
    host = socket.gethostname() if tracking.sqlite_file(record) else None
    common = cells, environment, tracking.code_fingerprint(), host
    return [RayTask(notebook, scale, part, *common) for part in parts]


def connect(ray: Any) -> None:
    """Join the cluster that `RAY_ADDRESS` names, or start Ray on this machine, open to it alone.

    Raises `ValueError` if the record is a file and there are several machines.
    """
    address, quiet = os.environ.get("RAY_ADDRESS"), {"log_to_driver": False}
    # What must be there when a worker's process starts, and is no secret.
    quiet["runtime_env"] = {"env_vars": notebooks.KERNEL_ENVIRONMENT}
    if address:
        ray.init(address, **quiet)
    else:
        ray.init("local", include_dashboard=False, **quiet)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    machines = {(node["NodeManagerHostname"], node["NodeManagerAddress"]) for node in nodes}
    if len(machines) > 1 and tracking.sqlite_file(tracking.store_uri()):
        raise ValueError(one_machine(", ".join(sorted(name for name, _ in machines))))


def run_tasks(ray: Any, tasks: list[RayTask], gpus: float) -> Iterator[tuple[RayTask, RayOutcome]]:
    """Every task and how it went, as they end; one that was lost is begun again before.

    Where the cluster has GPUs a task takes this share of one; each takes a CPU.
    """
    share = gpus if ray.cluster_resources().get("GPU") else 0
    # A worker ends with its task where that had a GPU: else it would keep its memory.
    remote = ray.remote(num_cpus=1, num_gpus=share, max_retries=0, max_calls=1 if share else 0)(
        work
    )
    running, tries = {remote.remote(task): task for task in tasks}, Counter()
    try:
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as lost:
                outcome = RayOutcome(f"{type(lost).__name__}: {tracking.why(lost)}", True)
            tries[task] += 1
            if outcome.again and tries[task] <= RETRIES:
                print(f"{task}: tried again after {outcome.said}", flush=True)
                running[remote.remote(task)] = task
            else:
                yield task, outcome
    finally:
        if running:  # left early, as by Ctrl-C
            for ref in running:
                ray.cancel(ref)
            ray.wait(list(running), num_returns=len(running), timeout=STOP_PATIENCE)


def execute_on_ray(
    ray: Any, tasks: dict[Path, list[RayTask]], asked: list[str], gpus: float
) -> bool:
    """The slices of these notebooks, then each notebook itself; whether all of them finished."""
    left, whole, done = {notebook: len(its) for notebook, its in tasks.items()}, True, 0
    all_tasks = sum(tasks.values(), [])
    failed: dict[Path, list[str]] = {notebook: [] for notebook in tasks}
    with closing(run_tasks(ray, all_tasks, gpus)) as outcomes:
        for task, outcome in outcomes:
            done += 1
            told = outcome.said or f"finished on {outcome.node}"
            print(f"{task}: {told} ({done} of {len(all_tasks)})", flush=True)
            failed[task.notebook] += [f"{task.part}: {told}"] if outcome.said else []
            left[task.notebook] -= 1
            if left[task.notebook] == 0:
                whole &= conclude(task.notebook, task.scale, failed[task.notebook], asked)
    for notebook, its in tasks.items():
        if not its:
            whole &= conclude(notebook, "", [], asked)
    return whole


def conclude(notebook: Path, scale: str, failed: list[str], asked: list[str]) -> bool:
    """Execute a notebook whose runs are all there, or say why they are not; whether it finished."""
    if not failed:
        code = notebooks.notebook_program([str(notebook), *asked])
        if code == 130:
            raise KeyboardInterrupt
        return code == 0
    execution = notebooks.Execution(notebook.stem, scale, "failed", 0.0, "; ".join(failed))
    notebooks.note(notebook, execution)
    return False


def ray_program(arguments: list[str] | None = None) -> int:
    """0 if all finished, 1 if some did not, 2 if it was refused, 130 if stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="*")
    parser.add_argument("--scale", choices=tracking.SCALES, default="paper")
    parser.add_argument("--repeats", type=int, help="for the notebooks that have them")
    parser.add_argument("--gpus-per-task", type=float, default=0.5, help="small nets share a GPU")
    given = parser.parse_args(arguments)
    if not given.notebooks:
        return 0
    gpus, paths = given.gpus_per_task, [notebook.resolve() for notebook in given.notebooks]
    if not (0 < gpus <= 1 or gpus >= 1 and gpus.is_integer()):
        print(f"GPUS_PER_TASK is {gpus} but must be a share of one, or whole", file=sys.stderr)
        return 2
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux, too: 127.0.0.1 alone
    try:
        import ray
    except ImportError:
        print(INSTALL, file=sys.stderr)
        return 2
    asked = ["--scale", given.scale]
    asked += ["--repeats", str(given.repeats)] if given.repeats else []
    try:
        tracking.client()  # made here, before many workers meet at it
        tasks = {notebook: tasks_of(notebook, given.scale, given.repeats) for notebook in paths}
        if any(tasks.values()):
            connect(ray)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # where Ray had its own
        return 0 if execute_on_ray(ray, tasks, asked, gpus) else 1
    except (ValueError, ConnectionError) as refusal:
        print(tracking.why(refusal), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: what is recorded is kept; the next execution goes on from there")
        return 130
    finally:
        ray.shutdown()


if __name__ == "__main__":
    from deimos.execution import ray_engine  # by the name that workers know it by

    sys.exit(ray_engine.ray_program())
