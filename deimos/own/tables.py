"""Tables of one's own: which column is what, and columns as numbers.

A message names the file, the line and what was wanted.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deimos.downloads import unpacked

SEQUENCE, LABEL, ID = ("sequence", "seq"), ("label", "y", "target"), ("id", "name", "barcode")


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
