"""A task as tensors: training rows, test rows, initial sets; and which rows are held out (App. D).

The authors tested the faces and the digits on one set, and drew the splicing test set anew in every
repeat. Ids count the rows of the full data set either way.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor


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
    plotted_error: str = "mse"  # in regression; or "rmse", as the paper plots the faces'
    test_per_repeat: bool = False  # whether each repeat draws a test set of its own
    n_validation: int = 50  # points that calibration validates on (App. E)

    @property
    def metric(self) -> str:
        """The score that the paper plots."""
        return "accuracy" if self.n_classes > 1 else self.plotted_error

    @property
    def better(self) -> str:
        """The direction of a better score: "higher" or "lower"."""
        return "higher" if self.n_classes > 1 else "lower"

    def scores(self, answers: Float[Tensor, "m c"]) -> dict[str, float]:
        """Test scores of the predictive mean: accuracy of its largest class, or MSE and RMSE."""
        if not answers.isfinite().all():  # else argmax would make an accuracy of NaN
            raise ValueError(f"{self.name}: the model's answers are not finite, it has diverged")
        if self.n_classes > 1:
            return {"accuracy": (answers.argmax(1) == self.test_y).double().mean().item()}
        mse = (answers.squeeze(1).double() - self.test_y).square().mean().item()
        return {"mse": mse, "rmse": mse**0.5}

    def hardness(self, ids: Sequence[int], neighbours: int = 10, among: int = 5_000) -> float:
        """Mean share of a point's nearest neighbours that are of another class (Fig. 3 c).

        0 for prototypes, towards 1 for outliers. Neighbours are found by Euclidean distance of the
        inputs, `among` so many training points or fewer, evenly spread over their ids. It looks at
        labels that no method sees, as a test score does.
        """
        points = torch.as_tensor(ids, device=self.x.device)
        others = self.train_ids[:: math.ceil(len(self.train_ids) / among)]
        apart = torch.cdist(self.x[points].flatten(1).float(), self.x[others].flatten(1).float())
        apart[points[:, None] == others] = torch.inf
        nearest = others[apart.topk(min(neighbours, len(others) - 1), largest=False).indices]
        return (self.y[nearest] != self.y[points, None]).double().mean().item()

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
            raise ValueError(f"{n} points need {each} a class; {self.name} has one with {fewest}")
        drawn = [rng.choice(ids[classes == k], each, replace=False) for k in range(self.n_classes)]
        return tuple(np.concatenate(drawn).tolist())

    def to(self, device: torch.device) -> "Task":
        """The same task with its tensors on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def checksum(tensors: Iterable[Tensor]) -> str:
    """Sixteen hex digits of the sha256 over the tensors' bytes: what a run knows its data by."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def hold_out(
    ids: Int[Tensor, " n"], n_test: int, rng: np.random.Generator, keep: Sequence[int] = ()
) -> tuple[Int[Tensor, " r"], Int[Tensor, " m"]]:
    """`ids` to train on and `n_test` random others, none in `keep`, to test on; both in order."""
    may_leave = ids[~torch.isin(ids, torch.tensor(keep, dtype=ids.dtype, device=ids.device))]
    if not 0 < n_test < len(may_leave):
        raise ValueError(f"{len(ids)} rows are too few to hold {n_test} of them out")
    drawn = rng.choice(len(may_leave), n_test, replace=False)
    test_ids = may_leave[torch.from_numpy(np.sort(drawn)).to(ids.device)]
    return ids[~torch.isin(ids, test_ids)], test_ids


def task_of_repeat(task: Task, repeat: int, rng: np.random.Generator) -> Task:
    """The task as one repeat meets it: with a test set of its own where the authors drew one.

    It is as large as the task's, and has none of the points in the repeat's stored initial set.
    """
    if not task.test_per_repeat:
        return task
    train_ids, test_ids = _of_repeat(task, repeat, rng)
    return replace(task, train_ids=train_ids, test_x=task.x[test_ids], test_y=task.y[test_ids])


def held_out_of_repeat(task: Task, repeat: int, rng: np.random.Generator) -> list[int] | None:
    """The ids that a repeat alone is tested on, by the stream of `task_of_repeat`; None if none
    are.
    """
    return _of_repeat(task, repeat, rng)[1].tolist() if task.test_per_repeat else None


def _of_repeat(
    task: Task, repeat: int, rng: np.random.Generator
) -> tuple[Int[Tensor, " r"], Int[Tensor, " m"]]:
    keep = task.initial_sets[repeat - 1] if repeat <= len(task.initial_sets) else ()
    rows = torch.arange(len(task.x), device=task.x.device)
    return hold_out(rows, len(task.test_x), rng, keep)
