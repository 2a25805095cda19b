"""Files to try the command on: a pool, some labelled points, and the answers for a second round."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from deimos.tasks import mnist, stand_ins
from deimos.tasks.files import atomic_write

N_POOL, N_LABELLED = 2_000, 200


def example_sequences(folder: Path) -> tuple[str, str]:
    """Simulated sequences of the splicing library's construct, and how often a donor is used."""
    n = N_POOL + N_LABELLED
    codes, sd1, sd2 = stand_ins.library(n, np.random.default_rng(1))
    texts = ["".join("ACGT"[base] for base in row) for row in codes]
    usage = (sd1 / np.maximum(sd1 + sd2, 1)).round(4)
    table = pd.DataFrame({"id": [f"s{i:04d}" for i in range(n)], "sequence": texts})
    write_table(folder / "pool.csv", table[N_LABELLED:])
    write_table(folder / "labelled.csv", table[:N_LABELLED].assign(label=usage[:N_LABELLED]))
    write_table(folder / "answers.csv", table[N_LABELLED:].assign(label=usage[N_LABELLED:]))
    return "pool.csv", "labelled.csv"


def example_images(folder: Path) -> tuple[str, str]:
    """Real digits as PNG files, the labelled ones in a folder a class."""
    digits = mnist.load_0_to_9("quick")
    rng, answers = np.random.default_rng(1), []
    rows = rng.permutation(len(digits.x))[: N_POOL // 2 + N_LABELLED // 2].tolist()
    for i, row in enumerate(rows):
        label, name = int(digits.y[row]), f"{i:04d}.png"
        known = i < N_LABELLED // 2
        place = folder / (f"labelled/{label}" if known else "pool")
        with atomic_write(place / name) as part:
            Image.fromarray(digits.x[row].numpy()).save(part, format="PNG")
        if not known:
            answers.append((name, label))
    write_table(folder / "answers.csv", pd.DataFrame(answers, columns=["file", "label"]))
    return "pool", "labelled"


def example_vectors(folder: Path) -> tuple[str, str]:
    """The digits' pixels as plain rows of numbers in .npz files."""
    digits = mnist.load_0_to_9("quick")
    rows = np.random.default_rng(1).permutation(len(digits.x))[: N_POOL // 2 + N_LABELLED // 2]
    x, y = digits.x[rows].flatten(1).numpy(), digits.y[rows].numpy()
    n = N_LABELLED // 2
    for name, arrays in (
        ("pool", {"x": x[n:]}),
        ("labelled", {"x": x[:n], "y": y[:n]}),
        ("answers", {"x": x[n:], "y": y[n:]}),
    ):
        with atomic_write(folder / f"{name}.npz") as part, part.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    return "pool.npz", "labelled.npz"


EXAMPLES: dict[str, Callable[[Path], tuple[str, str]]] = {
    "sequences": example_sequences,
    "images": example_images,
    "vectors": example_vectors,
}


def write_example(folder: Path, kind: str) -> list[str]:
    """The files of an example in a new or empty folder; lines that say how to go on."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and not empty: name a new folder")
    pool, labelled = EXAMPLES[kind](folder)
    return [
        f"{folder}: a pool, labelled points, and the pool's answers for a second round. Go on with",
        f"  python -m deimos select --pool {folder / pool} --labelled {folder / labelled} "
        f"--batch 96 --out {folder / 'picks.csv'}",
    ]


def write_table(file: Path, table: pd.DataFrame) -> None:
    """A table, whole or not at all."""
    with atomic_write(file) as part:
        table.to_csv(part, index=False)
