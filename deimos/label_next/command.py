"""Run `python -m deimos`, from its options to its last line."""

import argparse
import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from deimos import tracking
from deimos.label_next import examples, files, inventory, networks, record, repeats, report, rounds
from deimos.label_next.arrays import brightest
from deimos.label_next.labels import Labels, parse_labels
from deimos.label_next.points import Points
from deimos.label_next.tables import MADE, Columns
from deimos.models.training import PRECISIONS
from deimos.pool import select_batch as own_pool
from deimos.tasks.files import atomic_write


def parser(about: str) -> argparse.ArgumentParser:
    """The options; `about` says what the program is for."""
    top = argparse.ArgumentParser(prog="python -m deimos", description=about)
    commands = top.add_subparsers(dest="command", required=True)
    add = commands.add_parser("select", help="the next batch to label, and a page about it")
    add.add_argument("--pool", type=Path, required=True, help="table, image folder, .npz or .npy")
    add.add_argument("--labelled", type=Path, nargs="+", required=True, help="with labels; several")
    add.add_argument("--batch", type=int, help="how many to pick")
    add.add_argument("--out", type=Path, help="a .csv; the page goes beside it")
    add.add_argument("--dry-run", action="store_true", help="say what was read as what, and stop")
    add.add_argument("--matters", type=Path, help="points that matter instead of the pool's")
    add.add_argument("--input", nargs="+", default=[], help="the columns that the model is given")
    add.add_argument("--sequence", help="name of the column with sequences: --input, if it is one")
    add.add_argument("--label", help="name of the column with labels")
    add.add_argument("--id", help="name of the column that says which point it is")
    add.add_argument("--task", choices=("classes", "values"), help="what the labels are")
    add.add_argument("--epochs", type=int, help="of the fit; the paper's unless given")
    add.add_argument("--masks", type=int, help="dropout masks, J; as the batch needs unless given")
    add.add_argument("--noise", type=float, help="variance of a label; a share of the model's else")
    add.add_argument("--sample", type=int, help="so many points of the pool, at random")
    add.add_argument("--precision", choices=tuple(PRECISIONS), default="float32", help="of the fit")
    add.add_argument("--seed", type=int, default=0)
    show = commands.add_parser("example", help="write files to try it on")
    show.add_argument("folder", type=Path)
    show.add_argument("--kind", choices=tuple(examples.EXAMPLES), default="sequences")
    return top


@dataclass(frozen=True)
class Inputs:
    """Contents of a round's files, and the lines that say what was read as what."""

    pool: Points
    labelled: Points
    labels: Labels
    matters: Points | None
    settings: networks.Settings
    said: list[tuple[str, str]]

    @property
    def kind(self) -> str:
        """The kind of labels, in words."""
        return f"{len(self.labels.classes)} classes" if self.labels.classes else "values"

    @property
    def data(self) -> dict[str, Points]:
        """The points by what they are for."""
        matters = {} if self.matters is None else {"matters": self.matters}
        return {"pool": self.pool, "labelled": self.labelled, **matters}


def run_select(given: argparse.Namespace) -> None:
    """Read, fit, pick, and write the picks, the page and the record; ValueError in one sentence."""
    check_arguments(given)
    if not given.dry_run:
        record.check_record()  # a record out of reach is told before any work
    inputs = read_inputs(given)
    n, labelled = len(inputs.pool.x), len(inputs.labelled.x)
    print(f"pool: {n:,} {inputs.pool.kind}; labelled: {labelled:,}, {inputs.kind}; "
          f"{inputs.settings.name}")  # fmt: skip
    print("\n".join(f"{topic}: {text}" for topic, text in inputs.said))
    if given.dry_run:
        return
    classes = max(1, len(inputs.labels.classes))
    masks = given.masks or own_pool.enough_masks(given.batch, classes)
    wanted = rounds.Wanted(given.batch, masks, given.noise, given.sample, seed=given.seed,
                           precision=given.precision)  # fmt: skip
    found = rounds.run_round(
        inputs.pool, inputs.labelled, inputs.labels, inputs.settings, wanted, inputs.matters
    )
    picks = picked_rows(found, inputs)
    page, used = given.out.with_suffix(".html"), settings_of(given, inputs, masks)
    about = {name: str(value) for name, value in used.items()}
    about |= {f"checksum of {name}": points.checksum for name, points in inputs.data.items()}
    with atomic_write(given.out) as part, atomic_write(page) as page_part:
        write_picks(part, picks)
        x = inputs.pool.x[list(found.positions)]
        text = report.report_page(found, picks, inputs.pool, x, about, inputs.said)
        page_part.write_text(text, encoding="utf-8")
    try:
        run = record.log_round(found, used, inputs.data, [given.out, page])
    except (OSError, MlflowException) as problem:
        raise ValueError(
            f"the picks are in {given.out} and the page in {page}, but the record did not take "
            f"them: {tracking.why(problem)}"
        ) from problem
    tell(found, given, page, run)


def read_inputs(given: argparse.Namespace) -> Inputs:
    """The points and labels in the files, and what they were understood as."""
    columns = Columns(given.sequence, given.label, given.id, tuple(given.input))
    pool = files.read_pool(given.pool, columns, given.labelled)
    labelled, texts, where = files.read_labelled(given.labelled, columns, pool, given.pool)
    by_input = pool.kind != "vectors" or repeats.n_copies(pool.x) == 0
    labelled, texts, where, n_again = repeats.each_once(labelled, texts, where, by_input)
    folders = any(files.is_classes(place) for place in given.labelled)
    labels = parse_labels(texts, where, given.task, folders)
    matters = files.read_more(given.matters, columns, pool, given.pool) if given.matters else None
    outputs = max(1, len(labels.classes))
    most = brightest([pool.x, labelled.x]) if pool.kind == "images" else None
    settings = networks.fitting(pool.kind, tuple(pool.x.shape[1:]), outputs, most)
    settings = replace(settings, epochs=given.epochs or settings.epochs)
    said = inventory.lines(pool, labelled, labels, n_again)
    if matters is not None:
        said.append(("matters", f"{len(matters.x):,} points"))
    return Inputs(pool, labelled, labels, matters, settings, said)


def settings_of(
    given: argparse.Namespace, inputs: Inputs, masks: int
) -> Mapping[str, str | int | float]:
    """The settings of a round, for the page and the record."""
    return {
        "pool": str(given.pool),
        "labelled": " ".join(map(str, given.labelled)),
        "matters": str(given.matters or "the pool and the labelled points"),
        "network": inputs.settings.name,
        "labels": inputs.kind,
        "epochs": inputs.settings.epochs,
        "decay": inputs.settings.decay,
        "optimiser": inputs.settings.optimiser,
        "precision": given.precision,
        "masks": masks,
        "noise": "a share of the dropout variance" if given.noise is None else given.noise,
        "sample": given.sample or "all",
        "seed": given.seed,
    }


def check_arguments(given: argparse.Namespace) -> None:
    """ValueError for what cannot be asked, and for an output that would replace an input."""
    for name, least in (("batch", 1), ("masks", 2), ("epochs", 1), ("sample", 1), ("seed", 0)):
        value = getattr(given, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} is {value}, wanted {least} or more")
    if not given.dry_run and (given.batch is None or given.out is None):
        raise ValueError("--batch says how many to pick, and --out where to write them: give both")
    if given.out and given.out.suffix != ".csv":
        raise ValueError(f"--out is {given.out}, wanted a name that ends with .csv")
    inputs = [place for place in (given.pool, *given.labelled, given.matters) if place]
    for place in inputs:
        if not place.exists():
            raise ValueError(f"{place} is not there: give the path of a file or folder")
        written = [given.out, given.out.with_suffix(".html")] if given.out else []
        if place.resolve() in [file.resolve() for file in written]:
            raise ValueError(f"--out {given.out} would replace an input: give another name")


def picked_rows(found: rounds.Round, inputs: Inputs) -> pd.DataFrame:
    """The picks by rank: the pool's own columns, then what was found, then a label to be filled in.

    `model_says` is the likeliest class or the mean, `model_sd` the sd that dropout gives it.
    """
    rows = inputs.pool.table.iloc[list(found.positions)].reset_index(drop=True)
    rows = rows.drop(columns=[name for name in MADE if name in rows])
    if inputs.labels.classes:
        says = [inputs.labels.classes[k] for k in found.answers.argmax(1)]
    else:
        says = found.answers[:, 0].tolist()
    rows.insert(0, "rank", range(1, len(rows) + 1))
    rows["expected_improvement"], rows["share"] = found.gains, found.share()
    rows["model_says"], rows["model_sd"] = says, found.spread
    label = inputs.labelled.label or "label"
    if label not in rows:
        rows[label] = ""
    return rows


def write_picks(file: Path, picks: pd.DataFrame) -> None:
    """A table whose cells can be read back to the letter."""
    returns = any(picks[name].astype(str).str.contains("\r").any() for name in picks)
    picks.to_csv(file, index=False, quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)


def tell(found: rounds.Round, given: argparse.Namespace, page: Path, run: str) -> None:
    """Print the round's results in a few lines."""
    always = "the commonest class" if found.metric == "accuracy" else "the mean"
    print(
        f"validation {found.metric} {found.score:.3g} on {found.n_validation} held out "
        f"(always saying {always}: {found.naive:.3g})"
    )
    print(f"picked {len(found.positions)} of {found.n_open:,}; the last adds "
          f"{found.share()[-1]:.1%} of what the first does")  # fmt: skip
    for one in found.comparisons:
        print(f"{one.name}: {one.picked:.3g}, of a random batch {one.random:.3g}")
    print(
        f"picks: {given.out}   page: {page}   record: run {run[:8]} of {record.COMMAND_EXPERIMENT}"
    )


def run_command(arguments: list[str] | None, about: str) -> int:
    """Do what the arguments say; the exit status, 2 for what is refused."""
    given = parser(about).parse_args(arguments)
    try:
        if given.command == "example":
            print("\n".join(examples.write_example(given.folder, given.kind)))
        else:
            run_select(given)
    except KeyboardInterrupt:
        print("stopped: nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError, MlflowException) as problem:
        print(f"{tracking.why(problem)}", file=sys.stderr)
        return 2
    return 0
