"""The right digits under the right ids, and one clear sentence where they are not."""

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from deimos import data


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No MNIST on disk and no network: what torchvision meets on a closed machine."""
    monkeypatch.setenv("DEIMOS_DATA", str(tmp_path))
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    return tmp_path


def idx(values: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return head + values.astype(np.uint8).tobytes()


def test_without_files_or_network_real_digits_stand_in_and_say_so(nowhere):
    task = data.mnist_7_vs_9("quick")
    assert task.stand_in and task.source.startswith("stand-in")
    assert len(task.train_ids) == 600 and len(task.test_x) == 400
    assert set(task.y[task.train_ids].tolist()) == {0, 1} == set(task.test_y.tolist())


def test_at_paper_scale_missing_digits_are_an_error_that_says_what_to_put_where(nowhere):
    with pytest.raises(FileNotFoundError, match=f"put the four files .* in {nowhere}"):
        data.mnist_7_vs_9("paper")


def test_a_damaged_file_is_named(nowhere):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in data.MNIST_MD5:
        shape = (3,) if "labels" in name else (3, 28, 28)
        (raw / name).write_bytes(idx(np.zeros(shape)))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte is damaged .* delete it"):
        data.mnist_7_vs_9("quick")


def test_files_in_the_data_folder_are_used_before_anything_else(nowhere, monkeypatch):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = np.array([7, 9, 1, 9, 7])
    contents = {
        name: idx(digits) if "labels" in name else idx(np.full((5, 28, 28), 9))
        for name in data.MNIST_MD5
    }
    monkeypatch.setattr(data, "MNIST_MD5", {n: data.md5(c) for n, c in contents.items()})
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    task = data.mnist_7_vs_9("paper")
    assert task.source == "MNIST" and not task.stand_in
    assert task.train_ids.tolist() == [0, 1, 3, 4]  # ids are rows of the whole file
    assert task.y[task.train_ids].tolist() == [1, 0, 0, 1]  # a seven is class 1


def test_the_initial_set_represents_every_class_equally_and_repeats(nowhere):
    task = data.mnist_0_to_9("quick")
    ids = task.draw_initial_set(30, np.random.default_rng(0))
    assert len(set(ids)) == 30
    assert torch.bincount(task.y[list(ids)]).tolist() == [3] * 10
    assert ids == task.draw_initial_set(30, np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot represent 10 classes equally"):
        task.draw_initial_set(25, np.random.default_rng(0))


def test_the_checksum_follows_the_content(nowhere):
    first, again, other = data.mnist_7_vs_9("quick"), data.mnist_7_vs_9("smoke"), torch.zeros(3)
    assert first.checksum == again.checksum
    assert first.checksum != data.checksum([other])


def test_scores_are_those_of_the_mean_prediction(nowhere):
    task = data.mnist_7_vs_9("quick")
    answers = torch.stack([1 - task.test_y, task.test_y], dim=1).float()
    assert task.scores(answers) == {"accuracy": 1.0}
    answers[:100] = 1 - answers[:100]
    assert task.scores(answers) == {"accuracy": 0.75}
