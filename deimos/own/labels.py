"""Labels of one's own: classes or values, and which points to validate on.

Text is classes; few different whole numbers are classes too, all other numbers are values.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, Num
from torch import Tensor

MOST_CLASSES = 20  # different whole numbers that still are classes


@dataclass(frozen=True)
class Labels:
    """Class numbers or values, and what the classes are called."""

    y: Num[Tensor, " n"]
    classes: tuple[str, ...] = ()  # none in regression


def labels_of(said: list[str], where: list[str], task: str | None = None) -> Labels:
    """Classes or values, as `task` ("classes", "values") says or the labels look."""
    values = pd.to_numeric(pd.Series(said), errors="coerce").to_numpy(dtype=float)
    wrong, different = ~np.isfinite(values), sorted(set(said))
    few_whole = not wrong.any() and len(set(values)) <= MOST_CLASSES and (values % 1 == 0).all()
    if task == "values" or (task is None and not wrong.any() and not few_whole):
        if wrong.any():
            first = int(wrong.argmax())
            raise ValueError(f"{where[first]} has the label {said[first]!r}, wanted a number")
        if len(set(values)) == 1:
            raise ValueError(f"all {len(said)} labels are {said[0]}: there is nothing to learn")
        return Labels(torch.tensor(values).float())
    if task is None and wrong.any() and len(different) > max(2, len(said) // 2):
        first = int(wrong.argmax())
        raise ValueError(
            f"{len(different)} different labels of {len(said)} are no classes, and {said[first]!r} "
            f"in {where[first]} is no number: mend it, or say which with --task"
        )
    if few_whole:
        said = [f"{value:g}" for value in values]
        different = sorted(set(said), key=float)
    if len(different) < 2:
        raise ValueError(f"all {len(said)} labels are {different[0]!r}: wanted two classes or more")
    number = {name: i for i, name in enumerate(different)}
    return Labels(torch.tensor([number[name] for name in said]), tuple(different))


def held_out(labels: Labels, n: int, rng: np.random.Generator) -> Int[Tensor, " n"]:
    """Positions to validate on: in classification none that its class cannot spare."""
    order = torch.from_numpy(rng.permutation(len(labels.y)))
    if labels.classes:
        seen: dict[int, int] = {}
        later = []
        for position in order.tolist():
            number = int(labels.y[position])
            if seen.setdefault(number, 0):
                later.append(position)
            seen[number] += 1
        order = torch.tensor(later, dtype=torch.long)
    return order[:n].sort().values
