"""Killed, stopped or cut off anywhere, and taken up again: as if nothing had happened."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from mlflow import MlflowClient

from deimos import loop, tracking

TESTS = Path(__file__).parent
ROOT = TESTS.parent
WRITES = 400  # about as many statements and commits as the whole experiment has
CELLS = (
    "import tiny",
    "tiny.experiment('{name}', repeats=repeats, epochs=epochs)",
)
ENDLESS = 10**9  # epochs: a fit that would take weeks


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def database(tmp_path, empty):
    return Path(shutil.copy(empty, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, empty):
    """What the record of the tiny experiment holds if nothing happens to it."""
    database = shutil.copy(empty, tmp_path_factory.mktemp("undisturbed") / "mlflow.db")
    assert tiny.ended(tiny.started(database)) == 0
    assert len(tiny.steps(database)) == tiny.STEPS
    return tiny.content(database)


def assert_whole(database, expected):
    """The same values to the last bit, each of them once, and nothing still running."""
    pd.testing.assert_frame_equal(tiny.content(database), expected, check_exact=True)
    assert "RUNNING" not in tiny.statuses(database)
    members = "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'method'"
    assert tiny.rows(database, members) == [("FINISHED",)] * (expected.groupby(
        ["method", "repeat"]
    ).ngroups)  # fmt: skip


# 24 kills in all: 12 at a random statement or commit, 12 after a random time.
@pytest.mark.parametrize("seed", range(6))
def test_an_experiment_killed_anywhere_ends_as_if_nothing_had_happened(
    database, tmp_path, undisturbed, seed
):
    rng, killed = np.random.default_rng(seed), 0
    for life in range(4):
        there, diary = tiny.steps(database), tmp_path / f"life {life}"
        last = int(rng.integers(1, WRITES // 2)) if life % 2 else None
        process = tiny.started(database, diary=diary, last=last)
        if last is None:
            while process.is_alive() and not (tmp_path / "alive").exists():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 1.0))
            process.kill()
        killed += tiny.ended(process) == -signal.SIGKILL
        begun = diary.read_text().splitlines() if diary.exists() else []
        assert not there & set(begun) and len(begun) == len(set(begun))
    assert tiny.ended(tiny.started(database)) == 0
    assert_whole(database, undisturbed)
    assert killed >= 3, "too few were killed before they were done"
