"""Measure a contender in a process of its own; rows that all benchmarks fill."""

import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

Prepare = Callable[..., Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """One line of the table: deimos beside another way to the same result, or alone."""

    what: str  # with its size
    against: str  # "" where deimos is alone
    seconds: float
    others: float | None = None  # seconds
    megabytes: float | None = None  # the peak above the input
    others_megabytes: float | None = None
    note: str = ""


@contextmanager
def fresh(environment: dict[str, str] | None = None) -> Iterator[Callable]:
    """A new process, with more in its environment; call what it yields with a function to run."""
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        pool = get_context("spawn").Pool(1)
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield lambda function, *arguments: pool.apply(function, arguments)
    finally:
        pool.close()
        pool.join()


def alone(prepare: Prepare, *size: object, tiny: tuple, rounds: int = 1) -> tuple[float, float]:
    """Median seconds of `prepare(*size)()` in a new process, and its peak in MB above the input.

    It is run at size `tiny` first, which loads all there is to load.
    """
    with fresh() as call:
        return call(measure, prepare, size, tiny, rounds, torch.get_num_threads())


def measure(
    prepare: Prepare, size: tuple, tiny: tuple, rounds: int, threads: int
) -> tuple[float, float]:
    """Median seconds and peak megabytes in this process; the first call alone can tell the peak."""
    torch.set_num_threads(threads)
    prepare(*tiny)()
    run = prepare(*size)
    before = peak()
    took = median(seconds(run) for _ in range(rounds))
    return took, peak() - before


def peak() -> float:
    """The most memory that this process had so far, in MB.

    Linux hands its parent's peak down in getrusage, but not in /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac


def seconds(run: Callable[[], object]) -> float:
    """Seconds that one call of `run` takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
