"""What the paper prints: its tables, and every claim with a number as data that can be checked.

A claim says which rows of the tidy table it is about (experiment, batch size, metric, methods, and
`horizon`, the number acquired up to which the paper compares) and the `kind` of check, which
`stats.verdicts` looks up. Beside the test scores the claims read these metrics: `diversity` of a
batch; `ratio_3` and `ratio_50`, greedy over optimal with 3 or 50 normal samples a point, each
instance a repeat; `example_…`, the 3 × 3 matrix; and Fig. 1's `ei_…_over_accurate`, ratios of mean
EI on two intervals, and `queried_in_centre`, a count. Fig. 3 f's methods carry their |X_samp|.
"""

from dataclasses import dataclass
from functools import partial
from math import inf

# Name in tables and runs → name in the paper, in the order of the figures' legends.
METHODS = {
    "deimos": "DEIMOS",
    "random": "Random",
    "max_entropy": "Max. entropy",
    "bald": "BALD",
    "batchbald": "BatchBALD",
    "k_center": "Robust k-Center",
    "max_variance": "Max. variance",
    "deimos_500": "DEIMOS (|X_samp| = 500)",
    "deimos_5000": "DEIMOS (|X_samp| = 5000)",
    "k_center_authors": "Robust k-Center (authors' bounds)",
}

# Acquisitions needed to reach a score: threshold → method → number.
TABLE_1 = {
    0.11: {"deimos": 69, "max_variance": 92, "random": 80},
    0.10: {"deimos": 109, "max_variance": 318, "random": 180},
    0.095: {"deimos": 174, "max_variance": 492, "random": 306},
    0.09: {"deimos": 369, "max_variance": 708, "random": 387},
}
TABLE_2 = {
    0.95: {"deimos": 20, "max_entropy": 21, "bald": 23, "k_center": 24, "random": 48},
    0.96: {"deimos": 24, "max_entropy": 31, "bald": 25, "k_center": 39, "random": 55},
    0.97: {"deimos": 27, "max_entropy": 39, "bald": 39, "k_center": 58, "random": 113},
    0.975: {"deimos": 41, "max_entropy": 58, "bald": 67, "k_center": 58, "random": 158},
}
TABLE_2_P = {"max_entropy": 4.1e-11, "bald": 2.3e-21, "k_center": 7.7e-46, "random": 5.2e-133}


@dataclass(frozen=True)
class Claim:
    """One checkable sentence, with its numbers (`printed`) and how the paper writes them."""

    where: str
    says: str
    kind: str
    experiment: str
    batch_size: int
    metric: str
    methods: tuple[str, ...] = ()  # compared with DEIMOS; in a table row all, DEIMOS among them
    printed: tuple[int | float, ...] = ()
    template: str = ""
    better: str = "lower"  # or "higher": which way the metric improves
    horizon: int = 0
    threshold: float | None = None
    bounds: tuple[int | float, int | float] = (
        -inf,
        inf,
    )  # what the numbers may be for the claim to hold
    repeats: int = 3  # how many the paper has

    @property
    def paper(self) -> str:
        """The numbers as the paper prints them."""
        return self.template.format(*self.printed)


def _beats(claim, where: str, p_values: dict[str, float], template: str = "p = {}"):
    """DEIMOS outperforms each of these methods, with the p-value printed for it."""
    return tuple(
        claim(where, f"DEIMOS outperforms {METHODS[method]}", "outperforms",
              methods=(method,), printed=(p,), template=template)
        for method, p in p_values.items()
    )  # fmt: skip


def _rows(claim, where: str, table: dict[float, dict[str, int]]):
    """DEIMOS needs the fewest acquisitions in each row of a table."""
    return tuple(
        claim(where, f"DEIMOS reaches {threshold} with the fewest acquisitions", "fewest",
              methods=tuple(row), printed=tuple(row.values()), threshold=threshold,
              template=", ".join(f"{METHODS[method]} {{}}" for method in row))
        for threshold, row in table.items()
    )  # fmt: skip


_line = partial(
    Claim, experiment="synthetic-1d", batch_size=5, methods=("deimos",), horizon=5, repeats=1
)
SYNTHETIC_1D = (
    _line("§5.1", "EI is higher in [-2.5, 2.5], where data are sparse, than in [2.5, 10]",
          "within", metric="ei_sparse_over_accurate", bounds=(1, inf), template="ratio above 1"),
    _line("§5.1", "EI is higher in [-10, -7], where the fit is poor, than in [2.5, 10]",
          "within", metric="ei_poor_over_accurate", bounds=(1, inf), template="ratio above 1"),
    _line("Fig. 1 left", "Three of the batch of five lie in [-3, 3], two around it",
          "within", metric="queried_in_centre", bounds=(3, 3), printed=(3, 5), template="{} of {}"),
    _line("Fig. 1 right", "Retrained with the five labels, the model fits better",
          "within", metric="mse_before_over_after", bounds=(1, inf), template="improves"),
)  # fmt: skip

_splicing = partial(Claim, experiment="splicing", batch_size=1, metric="mse", horizon=600)
SPLICING = (
    *_beats(_splicing, "Fig. 2 left", {"max_variance": 2.1e-278, "random": 6.9e-34}),
    _splicing("§5.2", "DEIMOS achieves lower average MSE than both benchmarks", "outperforms",
              methods=("max_variance", "random"), printed=(1e-33,), template="p < {}"),
    *_rows(_splicing, "Tab. 1", TABLE_1),
    _splicing("§5.2", "Both alternatives need over 65% more data to reach 0.10", "extra",
              methods=("max_variance", "random"), printed=(0.65,), template="over {:.0%} more",
              threshold=0.10, bounds=(0.65, inf)),
    _splicing("§5.2", "Both alternatives need at least 75% more data to reach 0.095", "extra",
              methods=("max_variance", "random"), printed=(0.75,), template="at least {:.0%} more",
              threshold=0.095, bounds=(0.75, inf)),
)  # fmt: skip

_faces = partial(Claim, experiment="face-age", metric="rmse", horizon=2000)
FACE_AGE = (
    *_beats(partial(_faces, batch_size=100), "Fig. 2 centre",
            {"max_variance": 8e-3, "random": 8e-3}, "p < {}"),
    *_beats(partial(_faces, batch_size=200), "Fig. 2 right",
            {"max_variance": 9e-3, "random": 9e-3}, "p < {}"),
)  # fmt: skip

_digits = partial(Claim, metric="accuracy", better="higher")
_pair = partial(_digits, experiment="mnist-7-vs-9", batch_size=25, horizon=500)
_single = partial(_digits, experiment="mnist-7-vs-9", batch_size=1, horizon=200)
# The batch after the last evaluation is never acquired, so diversity ends one batch earlier.
_diverse = partial(
    Claim, says="DEIMOS has higher batch diversity in almost all iterations", kind="more_diverse",
    batch_size=25, metric="diversity", methods=("batchbald", "max_entropy"), printed=(0.01,),
    template="p < {}", better="higher",
)  # fmt: skip
# Nearer to a quarter of the data than to a third: at least 24/7 times as much for the other.
_quarter = partial(
    _single, "§5.3", kind="extra", methods=("random",), printed=(0.25,), bounds=(24 / 7 - 1, inf),
    template="DEIMOS needs roughly {} as much",
)  # fmt: skip
MNIST_7_VS_9 = (
    *_beats(_pair, "Fig. 3 a", {"random": 4.4e-11, "k_center": 1.9e-11}),
    _pair("§5.3", "DEIMOS improves upon BatchBALD", "outperforms",
          methods=("batchbald",), template="improves"),
    _diverse("Fig. 3 d", experiment="mnist-7-vs-9", horizon=475),
    _pair("Fig. 3 f", "No significant difference between |X_samp| = 500, 2500 and 5000",
          "no_difference", methods=("deimos_500", "deimos_5000"), template="not significant"),
    *_rows(_single, "Tab. 2", TABLE_2),
    *_beats(_single, "Tab. 2", TABLE_2_P),
    _quarter(says="A fourth of random's data suffices to reach 0.97", threshold=0.97),
    _quarter(says="A fourth of random's data suffices to reach 0.975", threshold=0.975),
)  # fmt: skip

_ten = partial(_digits, experiment="mnist-0-to-9", batch_size=25, horizon=1000)
MNIST_0_TO_9 = (
    *_beats(_ten, "Fig. 3 b", {"random": 9e-3, "max_entropy": 3e-3}),
    _ten("§5.3", "DEIMOS outperforms random and maximum entropy acquisition", "outperforms",
         methods=("random", "max_entropy"), printed=(9e-3,), template="p < {}"),
    _diverse("Fig. 3 e", experiment="mnist-0-to-9", horizon=975),
)  # fmt: skip

_appendix = partial(Claim, experiment="greedy-vs-optimal", kind="within", methods=("deimos",))
_example = partial(_appendix, "App. A", batch_size=2, repeats=1)
APPENDIX_A = (
    _example(says="Greed removes 16.9 of the 3 × 3 example's variance", metric="example_greedy",
             printed=(16.9,), template="{}", bounds=(16.85, 16.95)),
    _example(says="The best pair removes 19.6 of it", metric="example_optimal",
             printed=(19.6,), template="{}", bounds=(19.55, 19.65)),
    _example(says="Greed achieves around 86% of the best", metric="example_ratio",
             printed=(0.86,), template="{:.0%}", bounds=(0.855, 0.865)),
    *(_appendix("Fig. A.1", f"All ratios are above 0.97: batch size {b}, {n} samples a point",
                batch_size=b, metric=f"ratio_{n}", repeats=200,
                printed=(0.97,), template="above {}", bounds=(0.97, inf))
      for b in (2, 5, 10) for n in (3, 50)),
    # A ratio of one may exceed it by rounding.
    _appendix("Fig. A.1", "All ratios are between 0.99999 and 1: batch size 10, 3 samples a point",
              batch_size=10, metric="ratio_3", repeats=200,
              printed=(0.99999, 1), template="{} to {}", bounds=(0.99999, 1 + 1e-9)),
)  # fmt: skip

CLAIMS = SYNTHETIC_1D + SPLICING + FACE_AGE + MNIST_7_VS_9 + MNIST_0_TO_9 + APPENDIX_A
