"""A tiny experiment, run in processes of its own that tests kill, stop, and start twice."""

import atexit
import itertools
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sqlalchemy import Engine, NullPool, create_engine, event, text
from torch import nn

from deimos import tracking
from deimos.experiment import loop
from deimos.experiment.runs import Iteration, Member, Schedule
from deimos.models import networks
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.record import executions, store
from deimos.tasks.task import Task

SCHEDULE = Schedule(
    batch_size=4, n_initial=6, n_acquired=12, n_candidates=20, fit=Fit(3, minibatch=4, decay=0.01),
    noise=1e-4, n_masks=8, n_passes=5, seed=3,
)  # fmt: skip
METHODS, REPEATS = ("deimos", "max_variance"), 2
STEPS = len(METHODS) * REPEATS * 4

# Its children are born with everything imported, and with no thread of ours running.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["deimos.tracking", "mlflow.store.tracking.sqlalchemy_store", "torch._dynamo"]
)


def moons(n=90, train=range(60)) -> Task:
    """Two noisy half circles: the ids `train` in play, those beyond to test on, none before."""
    rng = np.random.default_rng(0)
    angle, y = rng.uniform(0, np.pi, n), np.arange(n) % 2
    points = np.stack([np.cos(angle) + y, np.sin(angle) * (1 - 2 * y)], 1)
    x = torch.from_numpy(points + 0.1 * rng.standard_normal(points.shape)).float()
    y = torch.from_numpy(y)
    ids, test = torch.tensor(train), slice(train.stop, n)
    return Task("moons", x, y, ids, x[test], y[test], 2, "simulated", "0" * 16)


def build(generator: torch.Generator) -> Network:
    network = Network(nn.Sequential(nn.Linear(2, 16), nn.ReLU()), (16, 8, 2), p=0.3)
    networks.initialise(network, generator)
    return network


def experiment(
    name="04-tiny",
    diary=None,
    repeats=REPEATS,
    epochs=SCHEDULE.fit.epochs,
    hold=None,
    gate=None,
    methods=METHODS,
) -> None:
    """All of it, as a notebook's cells do it; each step that is begun is noted in `diary`.

    Once `hold` steps are begun, no further one comes to its end; but all do once `gate` exists.
    """
    plain = loop.iterate
    loop.iterate = noted_and_held(plain, diary, hold, gate)
    try:
        place, task = tracking.experiment(name, "Is all of it there?", "smoke"), moons()
        schedule = SCHEDULE.changed(epochs=epochs)
        with tracking.fleet(place, task, "tiny", methods, repeats, schedule) as members:
            for iteration in loop.active_learning(task, build, members):
                tracking.log(iteration)
    finally:
        loop.iterate = plain


def killed_at_its_end() -> None:
    """The whole experiment, and a kill after its last write."""
    experiment()
    os.kill(os.getpid(), signal.SIGKILL)


def one_iteration(last_of_log=None) -> None:
    """Log one iteration that nothing was computed for; be killed at write `last_of_log` of that."""
    place = tracking.experiment("04-tiny", "Is all of it there?", "smoke")
    with tracking.fleet(place, moons(), "tiny", ["random"], 1, SCHEDULE) as members:
        metrics = {"test/accuracy": 0.5, "time/fit_seconds": 1.0}
        if last_of_log is not None:
            die_at(last_of_log)
        tracking.log(Iteration(members[0], 0, 6, metrics, (1, 2, 3, 4)))
        os._exit(0)


def write(writer: int, seconds: float) -> None:
    """Log iterations as fast as the record takes them, each to a run of this writer's own."""
    client, place = store.client(), tracking.experiment("04-tiny", "Is all of it there?", "smoke")
    run_id = client.create_run(place.id, tags={"writer": str(writer)}).info.run_id
    schedule, written = replace(SCHEDULE, batch_size=25, n_acquired=10**9), 0
    member, end = Member("random", 1, schedule, (), run_id), time.monotonic() + seconds
    for n in itertools.count(0, 25):
        metrics = {f"test/{i}": float(n + i) for i in range(8)}
        tracking.log(Iteration(member, n, n, metrics, tuple(range(n, n + 25))))
        written += 8 + 1 + 25
        if time.monotonic() > end:
            break
    client.set_tag(run_id, "written", written)


def noted_and_held(iterate, diary, hold, gate):
    numbers = itertools.count()

    def step(task, build, stopped, member):
        if hold is not None and next(numbers) >= hold:
            wait_until(lambda: gate is not None and os.path.exists(gate), limit=600)
        if diary is not None:
            with open(diary, "a") as lines:
                lines.write(f"{member.method} {member.repeat} {len(member.acquired)}\n")
        return iterate(task, build, stopped, member)

    return step


def child(database, last=None, start=None, server=False, what=experiment, **how) -> None:
    """Run `what` on a database, as a process; kill itself at its write number `last`.

    It waits for others at the barrier `start`. With `server`, it finds no locks beside the record.
    What it says on its standard error is kept beside a database that is a file.
    """
    if not is_server(database):
        os.dup2(os.open(said(database), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ["MLFLOW_TRACKING_URI"] = url(database)
    os.environ.pop("DEIMOS_EXECUTION", None)
    torch.set_num_threads(2)
    if server:
        store.locks = lambda: None
        executions.BEAT, executions.SILENCE = 0.2, 5.0
    if last is not None:
        die_at(last)
    if start is not None:
        start.wait()
    what(**how)
    atexit._run_exitfuncs()  # which children of a fork leave out


def die_at(last: int) -> None:
    """Be killed before statement or commit number `last`, counted from now."""
    numbers = itertools.count(1)

    def count(*_):
        if next(numbers) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)


def said(database) -> Path:
    return Path(f"{database}.said")


def started(database, **how):
    process = PROCESSES.Process(target=child, args=(database,), kwargs=how)
    process.start()
    return process


def kill_at_sight(process, folder, delay) -> None:
    """Kill it some seconds after it has opened the record in `folder`."""
    while process.is_alive() and not list(folder.glob(f"alive/*-{process.pid}-*")):
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()


def wait_until(true, process=None, limit=90.0) -> None:
    """Until it is `true`; the test fails if it takes too long, or if the process ends first."""
    end = time.monotonic() + limit
    while not true():
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"still not after {limit} s"
        time.sleep(0.02)


def ended(process, limit=120) -> int:
    """Its exit code; it is killed, and the test fails, if that takes longer than `limit`."""
    process.join(limit)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"still running after {limit} s")
    return process.exitcode


def is_server(database) -> bool:
    return "://" in str(database)


def url(database) -> str:
    return database if is_server(database) else f"sqlite:///{database}"


def rows(database, query) -> list[tuple]:
    patience = {} if is_server(database) else {"timeout": 60}
    engine = create_engine(url(database), poolclass=NullPool, connect_args=patience)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def statuses(database) -> dict[str, int]:
    return dict(rows(database, "SELECT status, COUNT(*) FROM runs GROUP BY status"))


def steps(database) -> set[str]:
    """The iterations that are in the record, in the words of the diary."""
    query = """
        SELECT m.value || ' ' || r.value || ' ' || step FROM metrics
        JOIN tags m USING (run_uuid) JOIN tags r USING (run_uuid)
        WHERE metrics.key = 'n_labelled' AND m.key = 'method' AND r.key = 'repeat'
    """
    return {step for (step,) in rows(database, query)}


def content(database, name="%") -> pd.DataFrame:
    """Every value in the record but the clock's, by member; what is there twice is there twice."""
    query = f"""
        SELECT m.value, r.value, metrics.key, step, metrics.value FROM metrics
        JOIN tags m USING (run_uuid) JOIN tags r USING (run_uuid) JOIN runs USING (run_uuid)
        JOIN experiments ON experiments.experiment_id = runs.experiment_id
        WHERE m.key = 'method' AND r.key = 'repeat' AND metrics.key NOT LIKE 'time/%'
        AND experiments.name LIKE '{name}'
    """
    columns = ["method", "repeat", "key", "step", "value"]
    return pd.DataFrame(sorted(rows(database, query)), columns=columns)
