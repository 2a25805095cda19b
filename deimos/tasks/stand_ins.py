"""Simulated data that stand in, at quick and smoke scale, for data that cannot be had.

Both stand-ins have the shape of the real data and a target that can be learned from it; neither
says anything about splicing or about faces.
"""

import numpy as np
from jaxtyping import Int, UInt8

CONSTRUCT = "TGCTTGG" + 25 * "N" + "GGTCGACCCAGGTTCGTG" + 25 * "N" + "GAGGTATTCTTATCACCTTCGTGGCT"


def library(
    n: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "n 101"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """n sequences of the real library's construct as codes (A, C, G, T = 0 to 3); SD1, SD2 reads.

    G favours SD1 in the first stretch and disfavours it in the second, T the other way round, and
    so do a few motifs of three bases, the more the nearer they lie to the donor between the two.
    Reads are binomial, and some sequences have none.
    """
    template = np.array(["ACGTN".index(base) for base in CONSTRUCT])
    random_bases = template == 4
    codes = np.tile(template, (n, 1))
    codes[:, random_bases] = rng.integers(0, 4, (n, random_bases.sum()))
    motifs = rng.normal(0, 1.5, (2, 64)) * (rng.random((2, 64)) < 0.1)  # effects, by stretch
    of_base = np.array([0, 0, 1, -1])[np.arange(64) // 4 % 4]  # that of each 3-mer's middle base
    first, second = codes[:, random_bases].reshape(n, 2, 25).swapaxes(0, 1)
    nearness = np.exp(-np.arange(23) / 12)  # from the donor outwards
    log_odds = (motifs[0] + of_base)[three_mers(first)] @ nearness[::-1]
    log_odds += (motifs[1] - of_base)[three_mers(second)] @ nearness
    usage = 1 / (1 + np.exp(-2.5 * (log_odds - log_odds.mean()) / log_odds.std()))
    reads = rng.negative_binomial(1, 0.03, n)
    sd1 = rng.binomial(reads, usage)
    return codes.astype(np.uint8), sd1, reads - sd1


def three_mers(codes: Int[np.ndarray, "n L"]) -> Int[np.ndarray, "n K"]:
    """The number of the 3-mer, of 64, that starts at each base but the last two."""
    return 16 * codes[:, :-2] + 4 * codes[:, 1:-1] + codes[:, 2:]


def portraits(
    n: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "n 3 200 200"], Int[np.ndarray, " n"]]:
    """n drawn faces and their ages, spread as UTKFace's: heads grow, hair greys, foreheads line.

    Skin, hair, background, light and place are each face's own and say nothing of its age.
    """
    ages = np.clip(rng.gamma(2.8, 12, n), 1, 110).astype(int)
    return np.stack([_portrait(age, rng) for age in ages.tolist()]), ages


def _portrait(age: int, rng: np.random.Generator) -> UInt8[np.ndarray, "3 200 200"]:
    row, column = np.mgrid[:200, :200] - 100.0
    row, column = row - rng.uniform(-6, 6), column - rng.uniform(-6, 6)
    grown = 1 - np.exp(-age / 9)
    height, width = 45 + 30 * grown, 42 + 16 * grown
    grey = 1 / (1 + np.exp((48 - age) / 8))
    brown = rng.uniform(25, 120) * np.array([1, 0.75, 0.5])
    hair = (1 - grey) * brown + grey * rng.uniform(190, 230)
    skin = rng.uniform(0.45, 1) * np.array([235, 195, 165])
    image = np.empty((3, 200, 200))
    image[:] = rng.uniform(40, 200, (3, 1, 1))

    def paint(where: np.ndarray, colour: np.ndarray | float):
        image[:, where] = np.broadcast_to(colour, 3)[:, None]

    paint((row / (1.25 * height)) ** 2 + (column / (1.2 * width)) ** 2 < 1, hair)
    paint(((row - 8) / height) ** 2 + (column / width) ** 2 < 1, skin)
    eye = 9 - 3 * grown
    for side in (-1, 1):
        paint((row + 4) ** 2 + (column - side * 0.4 * width) ** 2 < eye**2, 30.0)
    paint((abs(row - 0.5 * height) < 3) & (abs(column) < 0.35 * width), skin * [0.8, 0.5, 0.5])
    forehead = (row < -12) & (row > 12 - 0.7 * height) & (abs(column) < 0.6 * width)
    image[:, forehead] *= 1 - 0.45 * max(age - 25, 0) / 85 * (np.sin(row[forehead]) > 0)
    lit = image * rng.uniform(0.75, 1.15) + rng.normal(0, 8, image.shape)
    return lit.clip(0, 255).astype(np.uint8)
