"""What to label next, for people who live in files.

    python -m deimos select --pool pool.csv --labelled labelled.csv --batch 96 --out picks.csv
    python -m deimos example FOLDER

Write the labels of the picks into their `label` column and give both files: that is the next round.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from deimos.downloads import whole
from deimos.own import examples, files, networks, record, report, rounds
from deimos.own.labels import Labels, labels_of
from deimos.own.tables import Columns
from deimos.pool import select_batch as own_pool
from deimos.record import store


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m deimos", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    add = commands.add_parser("select", help="the next batch to label, and a page about it")
    add.add_argument("--pool", type=Path, required=True, help="table, image folder, .npz or .npy")
    add.add_argument("--labelled", type=Path, nargs="+", required=True, help="with labels; several")
    add.add_argument("--batch", type=int, required=True, help="how many to pick")
    add.add_argument("--out", type=Path, required=True, help="a .csv; the page goes beside it")
    add.add_argument("--matters", type=Path, help="points that matter instead of the pool's")
    add.add_argument("--sequence", help="name of the column with sequences")
    add.add_argument("--label", help="name of the column with labels")
    add.add_argument("--id", help="name of the column that says which point it is")
    add.add_argument("--task", choices=("classes", "values"), help="what the labels are")
    add.add_argument("--epochs", type=int, help="of the fit; the paper's unless given")
    add.add_argument("--masks", type=int, help="dropout masks, J; as the batch needs unless given")
    add.add_argument("--noise", type=float, help="variance of a label; a share of the model's else")
    add.add_argument("--sample", type=int, help="so many points of the pool, at random")
    add.add_argument("--seed", type=int, default=0)
    show = commands.add_parser("example", help="write files to try it on")
    show.add_argument("folder", type=Path)
    show.add_argument("--kind", choices=tuple(examples.KINDS), default="sequences")
    return top


def select(given: argparse.Namespace) -> None:
    """Read, fit, pick, and write the picks, the page and the record; ValueError in one sentence."""
    check(given)
    store.client()  # a record out of reach is told before any work
    columns = Columns(given.sequence, given.label, given.id)
    pool = files.read_pool(given.pool, columns)
    labelled, said, where = files.read_labelled(given.labelled, columns, pool, given.pool)
    labels = labels_of(said, where, given.task)
    data = {"pool": pool, "labelled": labelled}
    if given.matters:
        data["matters"] = files.read_pool(given.matters, columns)
        if data["matters"].x.shape[1:] != pool.x.shape[1:]:
            raise ValueError(f"{given.matters} has points of another shape than the pool")
    classes = max(1, len(labels.classes))
    settings = networks.fitting(pool.kind, tuple(pool.x.shape[1:]), classes)
    settings = replace(settings, epochs=given.epochs or settings.epochs)
    masks = given.masks or own_pool.enough_masks(given.batch, classes)
    kind = f"{len(labels.classes)} classes" if labels.classes else "values"
    print(f"pool: {len(pool.x):,} {pool.kind}; labelled: {len(said):,}, {kind}; {settings.name}")
    found = rounds.run(
        pool, labelled, labels, given.batch, settings, n_masks=masks, noise=given.noise,
        seed=given.seed, matters=data.get("matters"), sample=given.sample,
    )  # fmt: skip
    picks = table_of(found, pool, labels, columns)
    page = given.out.with_suffix(".html")
    used = {
        "pool": str(given.pool),
        "labelled": " ".join(map(str, given.labelled)),
        "matters": str(given.matters or "the pool and the labelled points"),
        "network": settings.name,
        "labels": kind,
        "epochs": settings.epochs,
        "decay": settings.decay,
        "optimiser": settings.optimiser,
        "masks": masks,
        "noise": "a share of the dropout variance" if given.noise is None else given.noise,
        "sample": given.sample or "all",
        "seed": given.seed,
    }
    about = {name: str(value) for name, value in used.items()}
    about |= {f"checksum of {name}": points.checksum for name, points in data.items()}
    with whole(given.out) as part, whole(page) as page_part:
        picks.to_csv(part, index=False)
        x = pool.x[list(found.positions)]
        page_part.write_text(report.page(found, picks, pool, x, about), encoding="utf-8")
    run = record.log_round(found, used, data, [given.out, page])
    tell(found, given, page, run)


def check(given: argparse.Namespace) -> None:
    """ValueError for what cannot be asked, and for an output that would replace an input."""
    for name, least in (("batch", 1), ("masks", 2), ("epochs", 1), ("sample", 1), ("seed", 0)):
        value = getattr(given, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} is {value}, wanted {least} or more")
    if given.out.suffix != ".csv":
        raise ValueError(f"--out is {given.out}, wanted a name that ends with .csv")
    inputs = [place for place in (given.pool, *given.labelled, given.matters) if place]
    for place in inputs:
        if not place.exists():
            raise ValueError(f"{place} is not there: give the path of a file or folder")
        if place.resolve() in (given.out.resolve(), given.out.with_suffix(".html").resolve()):
            raise ValueError(f"--out {given.out} would replace an input: give another name")


def table_of(
    found: rounds.Round, pool: files.Points, labels: Labels, columns: Columns
) -> pd.DataFrame:
    """The picks by rank: the pool's own columns, then what was found, then a label to be filled in.

    `model_says` is the likeliest class or the mean, `model_sd` the sd that dropout gives it.
    """
    rows = pool.table.iloc[list(found.positions)].reset_index(drop=True)
    rows = rows.drop(columns=[name for name in report.MADE if name in rows])
    if labels.classes:
        says = [labels.classes[k] for k in found.answers.argmax(1)]
    else:
        says = found.answers[:, 0].tolist()
    rows.insert(0, "rank", range(1, len(rows) + 1))
    rows["expected_improvement"], rows["share"] = found.gains, found.share()
    rows["model_says"], rows["model_sd"] = says, found.spread
    label = columns.label or "label"
    if label not in rows:
        rows[label] = ""
    return rows


def tell(found: rounds.Round, given: argparse.Namespace, page: Path, run: str) -> None:
    """What was found, in a few lines."""
    always = "the commonest class" if found.metric == "accuracy" else "the mean"
    print(
        f"validation {found.metric} {found.score:.3g} on {found.n_validation} held out "
        f"(always saying {always}: {found.naive:.3g})"
    )
    print(f"picked {len(found.positions)} of {found.n_open:,}; the last adds "
          f"{found.share()[-1]:.1%} of what the first does")  # fmt: skip
    for one in found.comparisons:
        print(f"{one.name}: {one.picked:.3g}, of a random batch {one.random:.3g}")
    print(f"picks: {given.out}   page: {page}   record: run {run[:8]} of {record.EXPERIMENT}")


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        if given.command == "example":
            print("\n".join(examples.write(given.folder, given.kind)))
        else:
            select(given)
    except KeyboardInterrupt:
        print("stopped: nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError, MlflowException) as problem:
        print(f"{store.why(problem)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
