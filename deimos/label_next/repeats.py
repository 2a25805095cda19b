"""Points that come twice: in the pool, among the labelled ones, or in both.

Two rows are one point if they have one id, or, where there are no ids, one input.
"""

import hashlib
from dataclasses import replace
from decimal import Decimal

import torch
from jaxtyping import Bool, Num
from torch import Tensor

from deimos.label_next.points import Points
from deimos.label_next.table_files import NUMBER


def digests(x: Num[Tensor, "n *input"]) -> list[bytes]:
    """A digest of every input: equal ones are equal to the last bit."""
    rows = x.numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def n_copies(x: Num[Tensor, "n *input"]) -> int:
    """Count the inputs that are those of a point before them."""
    return len(x) - len(set(digests(x)))


def already_labelled(pool: Points, labelled: Points) -> Bool[Tensor, " n"]:
    """Points of the pool that are labelled already: by id if both have one, else by input."""
    inputs = set(digests(labelled.x))
    same = torch.tensor([digest in inputs for digest in digests(pool.x)])
    if pool.id and pool.id in labelled.table:
        names = {name for name in labelled.table[pool.id].str.strip() if name}
        same |= torch.tensor([name in names for name in pool.table[pool.id].str.strip()])
    return same


def n_other_inputs(pool: Points, labelled: Points) -> int:
    """Count the labelled points that have the id of a point of the pool, but another input."""
    if not pool.id or pool.id not in labelled.table:
        return 0
    inputs = dict(zip(pool.table[pool.id].str.strip(), digests(pool.x), strict=True))
    names = labelled.table[pool.id].str.strip()
    return sum(
        name in inputs and inputs[name] != digest
        for name, digest in zip(names, digests(labelled.x), strict=True)
    )


def each_once(
    labelled: Points, said: list[str], where: list[str], by_input: bool = True
) -> tuple[Points, list[str], list[str], int]:
    """The labelled points without those that come again, and how many these are.

    ValueError if a point comes again with another label, or an id with another input. Rows without
    an id are one point if they have one input, unless `by_input` is False.
    """
    inputs, names = digests(labelled.x), [""] * len(said)
    if labelled.id and labelled.id in labelled.table:
        names = labelled.table[labelled.id].str.strip().tolist()
    named: dict[str, int] = {}
    unnamed: dict[bytes, int] = {}  # rows without an id
    first: dict[bytes, int] = {}
    keep = []
    for at, (digest, name) in enumerate(zip(inputs, names, strict=True)):
        before = named.get(name, unnamed.get(digest)) if name else None
        if not name and by_input:
            before = first.get(digest)
        if before is None:
            keep.append(at)
            (named if name else unnamed)[name or digest] = at
            first.setdefault(digest, at)
            continue
        _check_again(labelled.id, name, inputs, said, where, before, at)
    table = labelled.table.iloc[keep].reset_index(drop=True)
    once = replace(labelled, x=labelled.x[keep], table=table)
    return once, [said[at] for at in keep], [where[at] for at in keep], len(said) - len(keep)


def _check_again(
    id: str | None,
    name: str,
    inputs: list[bytes],
    said: list[str],
    where: list[str],
    before: int,
    at: int,
) -> None:
    """ValueError unless the rows `before` and `at` say the same of one point."""
    if inputs[before] != inputs[at]:
        raise ValueError(
            f"{where[before]} and {where[at]} have one {id}, {name!r}, and other inputs: is it no "
            f"id? Say by --id which column is, or give each a name of its own"
        )
    if _value(said[before]) != _value(said[at]):
        called = f" ({name})" if name else ""
        raise ValueError(
            f"{where[before]} and {where[at]} label one point{called} twice, {said[before]!r} and "
            f"{said[at]!r}: keep one, or of values the mean"
        )


def _value(label: str) -> Decimal | str:
    """A label as it counts: 1 and 1.0 are one."""
    return Decimal(label.strip()) if NUMBER.fullmatch(label) else label
