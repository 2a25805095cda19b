"""Labels of one's own, classes or values, and which points are held out to validate on.

A label is what the file says, to the letter; numbers that are equal are one class.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from jaxtyping import Int, Num
from torch import Tensor

from deimos.label_next.table_files import NUMBER
from deimos.label_next.tables import is_blurred, quoted
from deimos.tasks.npz import MOST_CLASSES, classes_or_values

# Words that programs write where there is no label.
NO_LABEL = {"na", "n/a", "#n/a", "<na>", "nan", "nat", "none", "null", "nil", "?", ".", "missing"}


@dataclass(frozen=True)
class Labels:
    """Class numbers or values, and what the classes are called."""

    y: Num[Tensor, " n"]
    classes: tuple[str, ...] = ()  # none in regression
    numbered: bool = False  # classes whose names are numbers, taken for such unasked

    def describe(self) -> str:
        """One line: the classes with their counts, or the values' range."""
        if not self.classes:
            y = self.y.double()
            return (
                f"{len(y):,} values from {y.min():.6g} to {y.max():.6g}, mean {y.mean():.6g}, "
                f"sd {y.std():.3g}"
            )
        counts = self.y.bincount(minlength=len(self.classes)).tolist()
        each = [f"{name!r} {n}" for name, n in zip(self.classes, counts, strict=True)]
        rest = f" and {len(each) - 20} more" if len(each) > 20 else ""
        asked = " (if these are values: --task values)" if self.numbered else ""
        return f"{len(each)} classes: {', '.join(each[:20])}{rest}{asked}"


def parse_labels(
    said: list[str], where: list[str], task: str | None = None, folders: bool = False
) -> Labels:
    """Classes or values, as `task` ("classes", "values") says or the labels look.

    Few numbers that are names of `folders` are classes.
    """
    numbers = [Decimal(text.strip()) if NUMBER.fullmatch(text) else None for text in said]
    all_numbers = None not in numbers
    if task is None:
        _refuse_words(said, where, all_numbers)
        if not all_numbers:
            _refuse_mixtures(said, where, numbers)
    few = folders and len(set(numbers)) <= MOST_CLASSES
    kind = task or ("classes" if few or not all_numbers else _kind_of_numbers(said, numbers))
    if kind == "values":
        return _values(said, where, numbers)
    names = _numbered(said, where, numbers) if all_numbers else said
    if task is None and not all_numbers:
        _refuse_twins(said)
    different = sorted(set(names), key=Decimal if all_numbers else None)
    if len(different) < 2:
        raise ValueError(f"all {len(said)} labels are {different[0]!r}: wanted two classes or more")
    number = {name: i for i, name in enumerate(different)}
    y = torch.tensor([number[name] for name in names])
    return Labels(y, tuple(different), numbered=all_numbers and task is None)


def _kind_of_numbers(said: list[str], numbers: list[Decimal]) -> str:
    """Classes or values; ValueError where whole numbers may be either."""
    whole = all(number == number.to_integral_value() for number in numbers)
    if len(set(numbers)) == 1:
        return "classes" if whole else "values"
    kind = classes_or_values(numbers, whole)
    if kind is None:
        raise ValueError(
            f"{len(set(numbers))} different whole numbers in {len(said)} labels, such as "
            f"{', '.join(list(dict.fromkeys(said))[:3])}, may be classes or values: say which by "
            f"--task classes or --task values"
        )
    return kind


def _values(said: list[str], where: list[str], numbers: list[Decimal | None]) -> Labels:
    values = np.array([np.nan if number is None else float(number) for number in numbers])
    wrong = ~(np.abs(values) < np.finfo(np.float32).max)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{where[first]} has the label {said[first]!r}, wanted a number")
    if len(set(values)) == 1:
        raise ValueError(f"all {len(said)} labels are {said[0]}: there is nothing to learn")
    if is_blurred(values[:, None])[0]:
        raise ValueError(
            f"the labels, such as {said[0]}, differ too little for single precision: take the "
            f"smallest of them away from all"
        )
    return Labels(torch.tensor(values).float())


def _numbered(said: list[str], where: list[str], numbers: list[Decimal]) -> list[str]:
    """The classes' names, as the file has them; 2 where it has 2 and 2.0."""
    spelt: dict[Decimal, dict[str, int]] = {}
    for at, (number, text) in enumerate(zip(numbers, said, strict=True)):
        spelt.setdefault(number, {}).setdefault(text, at)
    names = {}
    for number, texts in spelt.items():
        plain = [text for text in texts if re.fullmatch(r"-?(0|[1-9][0-9]*)", text)]
        tails = all(
            re.fullmatch(r"(\.0*)?", text.removeprefix(plain[0])) for text in texts if plain
        )
        if len(texts) > 1 and not (plain and tails):
            (one, i), (other, j) = list(texts.items())[:2]
            raise ValueError(
                f"{where[i]} has the label {one!r} and {where[j]} has {other!r}, one number: write "
                f"it alike"
            )
        names[number] = plain[0] if plain else next(iter(texts))
    return [names[number] for number in numbers]


def _refuse_words(said: list[str], where: list[str], all_numbers: bool) -> None:
    """ValueError for words that stand for no label."""
    absent = [at for at, text in enumerate(said) if text.strip().lower() in NO_LABEL]
    if absent and not all_numbers:
        number = [text for text in said if NUMBER.fullmatch(text)]
        is_none = "is no number" if len(number) * 2 >= len(said) else "says that there is no label"
        raise ValueError(
            f"{said[absent[0]]!r} in {where[absent[0]]} {is_none} ({len(absent)} of {len(said)} "
            f"are such): fill it in, leave the row out, or say --task classes if a class is "
            f"called so"
        )


def _refuse_mixtures(said: list[str], where: list[str], numbers: list[Decimal | None]) -> None:
    """ValueError for texts that are nearly all different, or stand among numbers."""
    different = len(set(said))
    texts = [at for at, number in enumerate(numbers) if number is None]
    first = said[texts[0]]
    commas = [at for at in texts if re.fullmatch(r"\s*-?[0-9]+,[0-9]+\s*", said[at])]
    if commas:
        raise ValueError(
            f"{where[commas[0]]} has the label {said[commas[0]]!r}: write numbers with a point, "
            f"or say --task classes"
        )
    if different > max(2, len(said) // 2):
        raise ValueError(
            f"{different} different labels of {len(said)} are no classes, and {first!r} "
            f"in {where[texts[0]]} is no number: mend it, or say which with --task"
        )
    if 2 * len(texts) < len(said):
        raise ValueError(
            f"{where[texts[0]]} has the label {first!r}, which is no number as "
            f"{len(said) - len(texts)} of the {len(said)} are: mend it, or say --task classes"
        )


def _refuse_twins(said: Sequence[str]) -> None:
    """ValueError for classes that only spaces, capitals or the coding of an accent tell apart."""
    alike: dict[str, Counter] = {}
    for name, n in Counter(said).items():
        key = unicodedata.normalize("NFKC", " ".join(name.split())).casefold()
        alike.setdefault(key, Counter())[name] = n
    for names in alike.values():
        if len(names) > 1:
            raise ValueError(
                f"the labels {quoted(list(names))} look alike: write them as one, or say "
                f"--task classes if they are as many classes"
            )


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
