"""Anybody's numbers become a task, or one sentence says what is wrong with the file."""

import numpy as np
import pytest
import torch

from deimos.experiment import loop
from deimos.experiment.runs import Member, Schedule
from deimos.models import networks
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.tasks import npz


@pytest.fixture
def write(tmp_path):
    def write(**arrays):
        np.savez_compressed(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


def test_whole_numbers_are_classes_and_bytes_stay_bytes(write, rng):
    x, y = rng.integers(0, 256, (40, 28, 28)).astype(np.uint8), np.arange(40) % 3
    task = npz.from_npz("paper", write(x=x, y=y))
    assert task.n_classes == 3 and task.metric == "accuracy" and task.name == "own-mine"
    assert task.x.dtype == torch.uint8 and np.array_equal(task.x, x)
    assert task.y.tolist() == y.tolist() and len(task.test_x) == 4 and len(task.train_ids) == 36
    assert not task.stand_in and task.source == "own file mine.npz"
    assert task.checksum == npz.from_npz("smoke", write(x=x, y=y)).checksum
    assert task.checksum != npz.from_npz("smoke", write(x=x, y=y[::-1])).checksum


def test_other_numbers_are_regressed_on_from_end_to_end(write, rng):
    x = rng.standard_normal((60, 5))
    task = npz.from_npz("quick", write(x=x, y=x.sum(1)))
    assert task.n_classes == 1 and task.metric == "mse" and task.x.dtype == torch.float32

    def build(generator: torch.Generator) -> Network:
        trunk = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU())
        network = Network(trunk, (8, 1), p=0.2)
        networks.initialise(network, generator)
        return network

    schedule = Schedule(4, 6, 8, None, fit=Fit(2, minibatch=4, decay=0.1), n_masks=4, n_passes=3)
    steps = list(loop.active_learning(task, build, [Member("deimos", 1, schedule)]))
    assert [step.n_labelled for step in steps] == [6, 10, 14]


X, Y = np.zeros((20, 3)), np.arange(20) % 2


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": X}, "has no array called y, wanted x and y"),
        ({"images": X, "y": Y}, "has no array called x"),
        ({"x": X, "y": Y[:-1]}, "has x of shape .20, 3. and y of shape .19,."),
        ({"x": X[:9], "y": Y[:9]}, "for each of 10 points or more"),
        ({"x": X, "y": np.eye(20)}, "y of shape .20, 20."),
        ({"x": X, "y": Y + 1}, "wanted classes 0, 1, … and no gaps"),
        ({"x": X, "y": 2 * Y}, "and no gaps"),
        ({"x": X, "y": 0 * Y}, "and no gaps"),
        ({"x": X, "y": np.full(20, np.inf)}, "has in y what is no number"),
        ({"x": X * np.nan, "y": Y}, "has in x what is no number, or not a finite one"),
        ({"x": X.astype(str), "y": Y}, "has in x what is no number"),
        ({"x": X.astype(object), "y": Y}, "is no .npz of plain numbers"),
    ],
)
def test_arrays_that_are_no_task_are_refused(write, arrays, complaint):
    with pytest.raises(ValueError, match=f"mine.npz .*{complaint}"):
        npz.from_npz("quick", write(**arrays))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-30],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"<!DOCTYPE html>",
        lambda whole: whole[:60] + bytes([whole[60] ^ 255]) + whole[61:],
        lambda whole: b"\x93NUMPY" + whole,
    ],
    ids=["empty", "cut", "half", "web page", "one byte", "another format"],
)
def test_a_damaged_file_is_named(write, rng, damage):
    file = write(x=rng.standard_normal((20, 3)), y=Y)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="mine.npz is no .npz of plain numbers, or it is damaged"):
        npz.from_npz("quick", file)


def test_a_single_array_is_not_taken_for_the_two(tmp_path):
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(ValueError, match="one.npy has no array called x, wanted x and y"):
        npz.from_npz("quick", tmp_path / "one.npy")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz cannot be read .No such file"):
        npz.from_npz("quick", tmp_path / "none.npz")


N = np.arange(40)


@pytest.mark.parametrize(
    ("y", "task", "n_classes"),
    [
        ((N % 3).astype(float), None, 3),
        ((N % 3).astype(np.float32), None, 3),
        (N % 2 == 0, None, 2),
        ((N % 3)[:, None], None, 3),
        (N % 3, "values", 1),
        ((N % 3).astype(float), "values", 1),
        (N / 7, None, 1),
        (N.astype(float), None, 1),
        (7.0 + N, None, 1),
        ((N % 15).astype(float), "classes", 15),
    ],
)
def test_whole_numbers_are_classes_of_whatever_type_they_are(write, rng, y, task, n_classes):
    file = write(x=rng.standard_normal((40, 3)), y=y)
    found = npz.from_npz("quick", file, task=task)
    assert found.n_classes == n_classes
    assert found.y.dtype == (torch.int64 if n_classes > 1 else torch.float32)
    assert found.y.tolist() == pytest.approx(y.ravel().astype(float).tolist())


@pytest.mark.parametrize(
    ("y", "task", "complaint"),
    [
        ((N % 15 + 20).astype(float), None, "whole numbers in y, written as floats"),
        (7.0 + 2 * (N % 2), None, "whole numbers in y, written as floats"),
        (1.0 + N % 3, None, "whole numbers in y, written as floats"),
        (N / 7, "classes", "y that is not of whole numbers"),
        (N % 3, "ages", "task = 'ages', wanted"),
        (N % 3 + 1, None, 'no gaps; task="values" regresses on them'),
        (N * 1e300, None, "has in y numbers too large for single precision"),
    ],
)
def test_what_may_be_classes_or_values_is_asked_about(write, rng, y, task, complaint):
    with pytest.raises(ValueError, match=complaint):
        npz.from_npz("quick", write(x=rng.standard_normal((40, 3)), y=y), task=task)
