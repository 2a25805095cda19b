"""The same labels on other scales are the same problem, each with runs of its own."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from tables import curves
from tiny import moons

from deimos.studies.targets import TARGETS, asked_for, with_targets
from deimos.tasks.splicing import load_splicing


@pytest.fixture(scope="module")
def sequences():
    return load_splicing("smoke")


def test_errors_are_the_same_on_every_scale_and_the_names_are_not(sequences):
    tasks = with_targets(sequences, TARGETS)
    mean = sequences.y[sequences.train_ids].mean()
    y = [task.test_y for task in tasks]
    torch.testing.assert_close(y[1], 1 - y[0])
    torch.testing.assert_close(y[2], y[0] - mean)
    assert tasks[2].y[tasks[2].train_ids].mean().item() == pytest.approx(0, abs=1e-6)
    answers = torch.rand(len(y[0]), 1, generator=torch.Generator().manual_seed(0))
    same = [answers, 1 - answers, answers - mean]
    scores = [task.scores(a)["mse"] for task, a in zip(tasks, same, strict=True)]
    assert scores == pytest.approx(scores[:1] * 3, rel=1e-5)
    assert len({task.name for task in tasks}) == len({task.checksum for task in tasks}) == 3
    assert tasks[0].checksum == sequences.checksum
    assert all(torch.equal(task.x, sequences.x) for task in tasks)


@pytest.mark.parametrize("wrong", ["2 * y", ""])
def test_a_target_that_is_not_known_is_named(sequences, wrong):
    with pytest.raises(ValueError, match=rf"are y, 1 - y, y - mean, .*got {re.escape(wrong)}$"):
        with_targets(sequences, ["y", wrong])


def test_classes_have_no_other_scale():
    with pytest.raises(ValueError, match="got moons, which has classes"):
        with_targets(moons(), ["y"])


def test_the_table_says_which_labels_were_asked_for_and_what_came_of_it(sequences):
    (task,) = with_targets(sequences, ["1 - y"])
    level = np.zeros((4, 3)) + [0.1, 0.2, 0.3]
    errors = curves({"deimos": level, "random": level + [0.1, 0.2, 0.3]}, metric="mse")
    labels = curves({"deimos": level + 0.5, "random": level}, metric="mean_label")
    rows = asked_for(task, pd.concat([errors, labels])).set_index("method")
    assert rows.target.unique().tolist() == ["1 - y"]
    half = 4.303 * 0.1 / 3**0.5
    assert rows.loc["random", "mse less DEIMOS'"] == (
        f"+0.2 [{0.2 - half:+.2g}, {0.2 + half:+.2g}]"
    )
    assert rows.loc["deimos", "mse less DEIMOS'"] == ""
    assert rows["asked for"].tolist() == ["0.70", "0.20"]
    assert rows["mean of all"].tolist() == [f"{task.y[task.train_ids].mean():.2f}"] * 2
