"""Tables of one's own: which column is what, columns as numbers, labels as classes or values.

What may be meant in two ways is refused, and the sentence names the option that says which. A
message names the file, the line and what was wanted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from deimos.label_next.table_files import LETTERS, NUMBER
from deimos.tasks import splicing

SEQUENCE, LABEL, ID = ("sequence", "seq"), ("label", "y", "target"), ("id", "name", "barcode")
# The columns that a round writes beside the pool's own.
MADE = ("rank", "expected_improvement", "share", "model_says", "model_sd")
ROW_NAMES = ("index", "level_0", "rownames", "x", "...1")  # as pandas and R write rows' numbers
SEVERAL = 10  # rows that count 0, 1, 2, …: then it is no accident


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns, where they are not to be found."""

    sequence: str | None = None
    label: str | None = None
    id: str | None = None
    input: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that were named as input, by `input` or as the one of `sequence`s."""
        return self.input or ((self.sequence,) if self.sequence else ())


@dataclass(frozen=True)
class Roles:
    """The use of each column of a pool's table, and a sentence on each that is of none."""

    kind: str  # sequences or vectors
    inputs: tuple[str, ...]
    id: str | None
    notes: tuple[str, ...]


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
            raise ValueError(f"{file} has no column {named!r}: it has {listed(table)}")
        return named
    found = called(table, usual)
    if not found and needed:
        raise ValueError(
            f"{file} has no column called {' or '.join(usual)}, but {', '.join(table)}: name "
            f"the one with the labels by --label"
        )
    return found[0] if found else None


def called(table: pd.DataFrame, usual: Sequence[str]) -> list[str]:
    """The columns with one of the usual names, capitals or not, in the order of these."""
    return [name for word in usual for name in table if name.lower() == word]


def label_column(file: Path, table: pd.DataFrame, named: str | None, pool: pd.DataFrame) -> str:
    """The column of a labelled table that holds the labels: one that the pool has not filled in."""
    first = column(file, table, named, LABEL, needed=True)
    if named is not None:
        return first
    usual = called(table, LABEL)
    free = [name for name in usual if name not in pool or not pool[name].str.strip().any()]
    if len(free) == 1:
        return free[0]
    others = [name for name in table if name not in pool and name not in (*MADE, *usual)]
    if free or len(usual) > 1 or others:
        choices = free or [*usual, *others]
        too = "" if free else f" (the pool has {usual[0]!r} filled in, too)"
        raise ValueError(f"{file}: which of {quoted(choices)} is the label{too}? Say so by --label")
    return first


def roles(file: Path, table: pd.DataFrame, columns: Columns, label: str | None) -> Roles:
    """The use of each column of a pool's table."""
    id, notes = id_column(file, table, columns.id)
    if columns.id is not None and columns.id == columns.label:
        raise ValueError(f"{file}: {id!r} is named as the label and as the id: name two columns")
    if label in table and table[label].str.strip().any():
        notes.append(f"{label!r} is the label, and what the pool has in it is not read")
    rest = [name for name in table if name not in (id, label)]
    if columns.inputs:
        inputs = named_inputs(file, table, columns.inputs)
        if label in inputs:
            raise ValueError(
                f"{file}: {label!r} is the label and an input: leave it out of --input, or say by "
                f"--label which column is the label"
            )
        one_of_letters = len(inputs) == 1 and not is_numbers(table[inputs[0]])
        kind = "sequences" if columns.sequence or one_of_letters else "vectors"
    elif sequence := sequence_column(file, table, rest):
        kind, inputs = "sequences", (sequence,)
    else:
        kind = "vectors"
        inputs, others = number_columns(file, table, rest)
        notes += others
    unused = [name for name in rest if name not in inputs and name not in called(table, ID)]
    unused = [name for name in unused if not any(note.startswith(repr(name)) for note in notes)]
    notes += [f"no input: {quoted(unused)}"] if unused else []
    return Roles(kind, tuple(inputs), id, tuple(notes))


def named_inputs(file: Path, table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of these names, which may also come as one list parted by commas."""
    split = [part for name in names for part in ([name] if name in table else name.split(","))]
    for name in split:
        column(file, table, name, ())
    return tuple(dict.fromkeys(split))


def id_column(file: Path, table: pd.DataFrame, named: str | None) -> tuple[str | None, list[str]]:
    """The column that says which point it is: no two rows share a name in it."""
    notes = []
    for name in [column(file, table, named, ())] if named else called(table, ID):
        cells = table[name].str.strip()
        again = cells[cells.duplicated(keep=False)]
        if again.empty:
            return name, notes
        shared = f"{again.iloc[0]!r} in lines {again.index[0]} and " + str(
            again.index[again == again.iloc[0]][1]
        )
        if named:
            raise ValueError(f"{file}: --id {name} is not unique, it has {shared}")
        notes.append(f"{name!r} is not unique ({shared}): no id, and no input")
    return None, notes


def sequence_column(file: Path, table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The one column of sequences, by its name or since most of what is in it looks like them."""
    usual = [name for name in called(table, SEQUENCE) if name in names]
    if len(usual) == 1:
        return usual[0]
    asked = [name for name in table if name in names or name in called(table, ID)]
    letters = [n for n in asked if table[n].head(1000).str.fullmatch(LETTERS.pattern).mean() > 0.5]
    found = usual or [name for name in letters if name in names and name.lower() not in ID]
    if len(found) > 1 or (letters and not found):
        choices = found or list(dict.fromkeys([*letters, *names]))
        raise ValueError(f"{file}: which of {quoted(choices)} is the input? Say so by --input")
    return found[0] if found else None


def number_columns(
    file: Path, table: pd.DataFrame, names: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """The columns of numbers that are features, and why others are not."""
    made = MADE if set(MADE) <= set(table) else ()
    inputs, notes = [], [f"{quoted(made)}: of an earlier round"] if made else []
    for name in names:
        cells = table[name]
        if not is_numbers(cells) or name in made or name.lower() in ID:
            _refuse_commas(file, name, cells)
            continue
        nameless = re.fullmatch(r"Unnamed: \d+", name)
        if (nameless or name.lower() in ROW_NAMES) and _numbers_rows(cells, nameless is not None):
            notes.append(f"{name!r} numbers the rows: no input")
        elif nameless:
            at = list(table).index(name) + 1
            raise ValueError(
                f"{file}: column {at} has numbers and no name, is it input? Give it a name, or "
                f"say by --input which columns are"
            )
        else:
            inputs.append(name)
    doubtful = [n for n in inputs if _is_id_like(n, table[n])]
    if doubtful:
        rest = [name for name in inputs if name not in doubtful]
        raise ValueError(
            f"{file}: {quoted(doubtful)} numbers the rows, is it input? Say by --input which "
            f"columns are, such as --input {' '.join(rest[:5])}{' …' if len(rest) > 5 else ''}"
        )
    if not inputs:
        raise ValueError(
            f"{file} has neither a column of sequences (A, C, G, T) nor one of numbers: its "
            f"columns are {', '.join(table)}"
        )
    return tuple(inputs), notes


def _numbers_rows(cells: pd.Series, in_any_order: bool) -> bool:
    """True of whole numbers that count the rows, or, in any order, that no two rows share."""
    whole = cells.str.strip().str.fullmatch("[0-9]{1,15}").all()
    if not whole or cells.duplicated().any():
        return False
    steps = np.diff(cells.astype(np.int64).to_numpy())
    return in_any_order or bool((steps == 1).all())


def _is_id_like(name: str, cells: pd.Series) -> bool:
    """True of what counts the rows, or is called an id or a row and has no number twice."""
    called_so = re.search(r"(^|[_\W])(id|idx|index|row|rownum|line)$|[a-z]I[Dd]$", name)
    called_so = called_so or re.search(r"[_\W](id|idx)$", name, re.IGNORECASE)
    return len(cells) >= SEVERAL and _numbers_rows(cells, called_so is not None)


def _refuse_commas(file: Path, name: str, cells: pd.Series) -> None:
    """ValueError for a column of numbers that a decimal comma, or one of thousands, is in."""
    commas = cells.str.fullmatch(r"\s*[+-]?[0-9]+(,[0-9]+)+(\.[0-9]*)?\s*")
    plain = cells.str.fullmatch(NUMBER.pattern)
    if commas.any() and (commas | plain).mean() > 0.5:
        raise ValueError(
            f"{file} line {cells.index[commas.argmax()]} has {cells[commas].iloc[0]!r} in "
            f"{name!r}: write numbers with a point, and without commas at the thousands"
        )


def codes(file: Path, sequences: pd.Series) -> UInt8[Tensor, "n L"]:
    """A, C, G, T (or U) as 0 to 3; ValueError names the first line that is not like the others."""
    texts = sequences.str.strip().str.upper().str.replace("U", "T")
    return splicing.encode(
        file, list(sequences.index), [text.encode("ascii", "replace") for text in texts]
    )


def is_numbers(cells: pd.Series) -> bool:
    """True if most of a column are numbers; what is not will be told."""
    return bool(pd.to_numeric(cells, errors="coerce").notna().mean() > 0.5)


def numbers(file: Path, table: pd.DataFrame, names: Sequence[str]) -> Float[Tensor, "n d"]:
    """These columns as numbers; ValueError names the first line where there is none."""
    exact = table[list(names)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        line, at = (int(i[0]) for i in wrong.nonzero())
        got = table[names[at]].iloc[line]
        _refuse_commas(file, names[at], table[names[at]])
        raise ValueError(
            f"{file} line {table.index[line]} has {got!r} in {names[at]!r}, wanted a number"
        )
    blurred = is_blurred(exact)
    if blurred.any():
        raise ValueError(
            f"{file} has numbers in {names[int(blurred.argmax())]!r} that differ too little for "
            f"single precision: take the smallest of them away from all"
        )
    return torch.tensor(values)


def is_blurred(values: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " d"]:
    """True of columns that vary, but so little for their size that single precision loses it."""
    spread, size = values.std(0), np.abs(values).max(0)
    return (spread > 0) & (spread < 1e-5 * size) & (values.max(0) > values.min(0))


def listed(table: pd.DataFrame) -> str:
    """The names of a table's columns."""
    return ", ".join(table)


def quoted(names: Sequence[str], most: int = 12) -> str:
    """Names between quotation marks, the first of many."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest
