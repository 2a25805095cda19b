"""A function of one input, sampled where it is well known and where it is not (Fig. 1, §5).

The function is a random tanh network. The training points leave a gap between −2 and 2; the pool
lies on a grid over all of −10 to 10, and so do the noise-free test points.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from deimos.tasks.task import Task, checksum

# Columns set, x, value; read from github.com/unagpal/Active-Learning-Splicing at commit b1d4f3b.
STORED = Path(__file__).with_name("synthetic_1d.csv")
GRID = np.linspace(-10, 10, 201)
STD = 0.5  # of the random network's weights and biases
NOISE = 0.03  # of the function's range
N_TRAIN = 70  # of the 100 points sampled

Curve = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]  # x, y


def load_synthetic_1d(seed: int | None = None) -> Task:
    """70 training points, which are the initial set of ids 0 to 69, and 201 of the pool.

    They are the stored points of the authors' figure, or with a `seed` drawn as theirs were.
    """
    if seed is None:
        (train, pool, test), source = read_points(STORED), "the authors' stored points"
    else:
        (train, pool, test), source = draw_points(np.random.default_rng(seed)), f"seed {seed}"
    x, y = (np.concatenate(both) for both in zip(train, pool, strict=True))
    x, y, test_x, test_y = (torch.from_numpy(values).float() for values in (x, y, *test))
    return Task(
        name="synthetic-1d",
        x=x.unsqueeze(1),
        y=y,
        train_ids=torch.arange(len(x)),
        test_x=test_x.unsqueeze(1),
        test_y=test_y,
        n_classes=1,
        source=source,
        checksum=checksum([x, y, test_x, test_y]),
        initial_sets=(tuple(range(N_TRAIN)),),
    )


def draw_points(rng: np.random.Generator) -> tuple[Curve, Curve, Curve]:
    """Training points, pool and test points of a function drawn at random."""
    sizes = [(1, 32), (32, 32), (32, 1)]
    layers = [(rng.normal(0, STD, size), rng.normal(0, STD, size[1])) for size in sizes]

    def f(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        h = x[:, None]
        for kernel, bias in layers[:-1]:
            h = np.tanh(h @ kernel + bias)
        kernel, bias = layers[-1]
        return (h @ kernel + bias).squeeze(1)

    noise = NOISE * np.ptp(f(GRID))
    where = [rng.uniform(*ends, n) for *ends, n in [(-10, -2, 49), (2, 10, 49), (-2, 2, 2)]]
    sample = rng.permutation(np.concatenate(where))[:N_TRAIN]
    pool = GRID + 0.05
    noisy = [(x, f(x) + rng.normal(0, noise, len(x))) for x in (sample, pool)]
    return *noisy, (GRID, f(GRID))


def read_points(file: Path) -> tuple[Curve, Curve, Curve]:
    """The same from a table of set, x and value; ValueError where it is not the authors' layout."""
    with file.open(newline="") as stream:
        rows = list(csv.reader(stream))
    if not rows or rows[0] != ["set", "x", "value"]:
        raise ValueError(f"{file} does not begin with the header set,x,value")
    points = []
    for name, n in (("chosen_sample", N_TRAIN), ("pool", len(GRID)), ("test", len(GRID))):
        of_set = [row for row in rows if row[:1] == [name]]
        try:
            x, y = np.array([list(map(float, row[1:])) for row in of_set]).reshape(n, 2).T
        except ValueError as error:
            raise ValueError(f"{file} does not have {n} rows {name},x,value of numbers") from error
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError(f"{file} has a {name} that is not finite")
        points.append((x, y))
    return tuple(points)
