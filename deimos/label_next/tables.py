"""Tables of one's own: which column is what, columns as numbers, labels as classes or values.

A message names the file, the line and what was wanted.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from deimos.downloads import unpacked

SEQUENCE, LABEL, ID = ("sequence", "seq"), ("label", "y", "target"), ("id", "name", "barcode")
MOST_CLASSES = 20  # different whole numbers that still are classes


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns, where they are not to be found."""

    sequence: str | None = None
    label: str | None = None
    id: str | None = None


def read_table(file: Path) -> pd.DataFrame:
    """A table with a header, all of it as text; commas, tabs or semicolons part the columns."""
    text = unpacked(file)
    head = text.split(b"\n", 1)[0]
    if not text.strip() or head.lstrip().startswith(b"<"):
        raise ValueError(f"{file} is {'a web page' if text.strip() else 'empty'}, not a table")
    by = max((b",", b"\t", b";"), key=head.count).decode()
    try:
        table = pd.read_csv(io.BytesIO(text), sep=by, dtype=str, na_filter=False, index_col=False)
    except ValueError as error:  # of pandas: no columns, too many in a line, no text
        why = str(error).splitlines()[0]
        raise ValueError(f"{file} is no table that can be read ({why})") from error
    if table.empty:
        raise ValueError(f"{file} has a header and nothing below it")
    return table.rename(columns=str.strip)


def column(
    file: Path,
    table: pd.DataFrame,
    named: str | None,
    usual: Sequence[str],
    needed: bool = False,
) -> str | None:
    """The column called so, or else the first that has one of the usual names."""
    if named is not None:
        if named not in table:
            raise ValueError(f"{file} has no column {named!r}: it has {', '.join(table)}")
        return named
    found = [name for word in usual for name in table if name.lower() == word]
    if not found and needed:
        raise ValueError(
            f"{file} has no column called {' or '.join(usual)}, but {', '.join(table)}: name "
            f"the one with the labels by --label"
        )
    return found[0] if found else None


def sequences_in(table: pd.DataFrame, columns: Columns) -> str | None:
    """The one column that looks like sequences."""
    found = [name for name in table if table[name].str.fullmatch("[ACGTUacgtu]{10,}").all()]
    return found[0] if len(found) == 1 else None


def codes(file: Path, sequences: pd.Series) -> UInt8[Tensor, "n L"]:
    """A, C, G, T (or U) as 0 to 3; ValueError names the first line that is not like the others."""
    texts = sequences.str.strip().str.upper().str.replace("U", "T")
    lengths = texts.str.len().to_numpy()
    if (lengths != lengths[0]).any():
        line = int((lengths != lengths[0]).argmax())
        raise ValueError(
            f"{file} line {line + 2} has a sequence of {lengths[line]} nt, the first has "
            f"{lengths[0]}: the net takes one length"
        )
    to_code = np.full(256, 4, np.uint8)
    to_code[list(b"ACGT")] = range(4)
    joined = "".join(texts).encode("ascii", "replace")
    found = to_code[np.frombuffer(joined, np.uint8)].reshape(len(texts), -1)
    strange = (found == 4).any(1)
    if strange.any() or not lengths[0]:
        line = int(strange.argmax()) + 2
        raise ValueError(f"{file} line {line}: a sequence is written in A, C, G and T alone")
    return torch.from_numpy(found)


def is_numbers(texts: pd.Series) -> bool:
    """Whether most of a column are numbers; what is not will be told."""
    return bool(pd.to_numeric(texts, errors="coerce").notna().mean() > 0.5)


def numbers(file: Path, table: pd.DataFrame, names: list[str]) -> Float[Tensor, "n d"]:
    """These columns as numbers; ValueError names the first line where there is none."""
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        line, at = (int(i[0]) for i in wrong.nonzero())
        got = table[names[at]].iloc[line]
        raise ValueError(f"{file} line {line + 2} has {got!r} in {names[at]!r}, wanted a number")
    return torch.tensor(values)


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
