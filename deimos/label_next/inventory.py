"""Say what was read as what, in the lines that the command and its page begin with."""

from deimos.label_next.labels import Labels
from deimos.label_next.points import Points
from deimos.label_next.repeats import already_labelled, n_copies, n_other_inputs


def lines(pool: Points, labelled: Points, labels: Labels, n_again: int) -> list[tuple[str, str]]:
    """Topic and text: the input, id and label, what is labelled and open, and what comes twice.

    `n_again` says how many labelled rows came again and were left out.
    """
    said = [("input", pool.describe())]
    if pool.id:
        shared = pool.id in labelled.table
        missing = "" if shared else ", which the labelled have not: known by their input"
        said.append(("id", f"column {pool.id!r}{missing}"))
    else:
        said.append(("id", "the file" if "file" in pool.table else "none: known by their input"))
    where = f"column {labelled.label!r}, " if labelled.label else ""
    said.append(("label", where + labels.describe()))
    n_known = int(already_labelled(pool, labelled).sum())
    said.append(
        ("pool", f"{n_known:,} of {len(pool.x):,} are labelled, {len(pool.x) - n_known:,} open")
    )
    twice = repeated(pool, labelled, n_again)
    said.append(("duplicates", "; ".join(twice) or "none"))
    notes = dict.fromkeys([*pool.notes, *labelled.notes])
    return said + [("note", note) for note in notes]


def repeated(pool: Points, labelled: Points, n_again: int) -> list[str]:
    """Sentences on points that come twice."""
    said = []
    if n := n_copies(pool.x):
        said.append(f"{n:,} of the pool have the input of another")
    if n_again:
        said.append(f"{n_again:,} labelled came again with the same label, counted once")
    if n := n_copies(labelled.x):
        said.append(f"{n:,} labelled have the input of another under another id")
    if n := n_other_inputs(pool, labelled):
        said.append(f"{n:,} labelled have an id of the pool and another input")
    return said
