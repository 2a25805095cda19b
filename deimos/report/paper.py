"""The paper as data: its tables, and every claim that can be checked.

A claim says which rows of the tidy table it is about (experiment, batch size, metric, methods, and
from `start` to `horizon`, the numbers acquired between which the paper compares) and the `kind` of
check, which `verdicts` looks up. Beside the test scores the claims read these metrics: `diversity`
of a batch, `share_confident` (how much of it confident pairs make) and `hardness` of its points,
`acquire_seconds`, `mean_variance` of the predictions; of App. A `lowest_ratio_3` and
`lowest_ratio_50`, the lowest of 200 greedy over optimal with 3 or 50 normal samples a point, and
`example_…`, the 3 × 3 matrix; of Fig. 1 ratios of EI and of test errors on intervals, and
`queried_in_centre`, a count. In Fig. 1 and App. A each seed is a repeat. Fig. 3 f's methods carry
their |X_samp|.
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
    "batchbald_authors": "BatchBALD (authors' estimator)",
    "deimos_logits": "DEIMOS (logits)",
}
# Every method that a notebook may be given, as figures and pages call it.
NAMES = METHODS | {
    "deimos_forward_backward": "Forward and backward",
    "epig": "EPIG",
    "margin": "Margin",
    "power_variance": "Power variance",
    "power_entropy": "Power entropy",
    "power_bald": "Power BALD",
    "softmax_variance": "Softmax variance",
    "softmax_entropy": "Softmax entropy",
    "softmax_bald": "Softmax BALD",
    "greedy_k_center": "Greedy k-Center",
    "badge": "BADGE",
    "typiclust": "TypiClust",
    "prob_cover": "ProbCover",
    "core_set": "CoreSet",
    "max_herding": "MaxHerding",
    "lcmd": "LCMD",
    "bait": "BAIT",
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


SEEDS = 20  # over which a claim about a single draw is checked


@dataclass(frozen=True)
class Claim:
    """One checkable sentence, with its numbers (`printed`) and how the paper writes them."""

    where: str
    says: str
    kind: str
    experiment: str
    batch_size: int
    metric: str
    methods: tuple[str, ...] = ()  # compared with the leader; in a table row all, it among them
    printed: tuple[int | float, ...] = ()
    template: str = ""
    better: str = "lower"  # or "higher": which way the metric improves
    start: int = 0
    horizon: int = 0
    threshold: float | None = None
    # Between which the numbers lie if the claim holds; of an "ahead", the share of iterations.
    bounds: tuple[int | float, int | float] = (-inf, inf)
    repeats: int = 3  # how many the paper has; of a simulation, over how many seeds it is checked
    leader: str = "deimos"  # the method that the claim puts first

    @property
    def title(self) -> str:
        """Where the paper says it, and what: as pages name the claim."""
        return f"{self.where}: {self.says}"

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


def _ahead(claim, where: str, says: str, methods: tuple[str, ...], share: float):
    """DEIMOS' mean is the better one in this share of the iterations, or more, against each."""
    return tuple(
        claim(where, says.format(METHODS[method]), "ahead", methods=(method,),
              bounds=(share, 1), template=f"in {share:.0%} of iterations or more, as we read it")
        for method in methods
    )  # fmt: skip


MOST, NEARLY_ALL = 0.5, 0.9  # shares of the iterations, for the paper's words

_line = partial(
    Claim, kind="within", experiment="synthetic-1d", batch_size=5, methods=("deimos",), horizon=5,
    repeats=SEEDS,
)  # fmt: skip
_more = partial(_line, bounds=(1, inf), template="ratio above 1")
SYNTHETIC_1D = (
    _more("§5.1", "EI is higher in [-2.5, 2.5], where data are sparse, than in [2.5, 10]",
          metric="ei_sparse_over_accurate"),
    _more("§5.1", "EI is higher in [-10, -7], where the fit is poor, than in [2.5, 10]",
          metric="ei_poor_over_accurate"),
    _more("§5.1", "The first model errs more in [-10, -7] than in [2.5, 10]",
          metric="mse_poor_over_accurate"),
    _line("Fig. 1 left", "Three of the batch of five lie in [-3, 3], two around it",
          metric="queried_in_centre", bounds=(3, 3), printed=(3, 5), template="{} of {}"),
    _more("Fig. 1 right", "Retrained with the five labels, the model fits better",
          metric="mse_before_over_after", template="improves"),
    _more("Fig. 1 right", "Retrained, it fits better in [-2.5, 2.5], where data were sparse",
          metric="mse_before_over_after_sparse", template="improves"),
    _more("Fig. 1 right", "Retrained, it fits better in [-10, -7], where the fit was poor",
          metric="mse_before_over_after_poor", template="improves"),
)  # fmt: skip

_splicing = partial(Claim, experiment="splicing", batch_size=1, metric="mse", horizon=600)
SPLICING = (
    *_beats(_splicing, "Fig. 2 left", {"max_variance": 2.1e-278, "random": 6.9e-34}),
    _splicing("§5.2", "DEIMOS achieves lower average MSE than both benchmarks", "outperforms",
              methods=("max_variance", "random"), printed=(1e-33,), template="p < {}"),
    _splicing("§5.2", "DEIMOS outperforms both over the first several hundred iterations",
              "outperforms", methods=("max_variance", "random"), horizon=300,
              template="the first 300, as we read it"),
    _splicing("§5.2", "Random catches up near the end", "no_difference", methods=("random",),
              start=450, template="the last 150, as we read it"),
    *_ahead(_splicing, "§5.2", "{} performs poorly throughout", ("max_variance",), NEARLY_ALL),
    *_rows(_splicing, "Tab. 1", TABLE_1),
    _splicing("§5.2", "Both alternatives need over 65% more data to reach 0.10", "extra",
              methods=("max_variance", "random"), printed=(0.65,), template="over {:.0%} more",
              threshold=0.10, bounds=(0.65, inf)),
    _splicing("§5.2", "Both alternatives need at least 75% more data to reach 0.095", "extra",
              methods=("max_variance", "random"), printed=(0.75,), template="at least {:.0%} more",
              threshold=0.095, bounds=(0.75, inf)),
)  # fmt: skip

# App. E: the nugget in use over the dropout variance of the first model.
_nugget = partial(
    Claim, "App. E", kind="nugget", metric="mean_variance", methods=("deimos",), template="{} to {}"
)
_regression = partial(
    _nugget, says="τ⁻¹ is .1 to .2 of the first model's variance",
    printed=(0.1, 0.2), bounds=(0.1, 0.2),
)  # fmt: skip
_smoothing = partial(
    _nugget, says="τ_s⁻¹ is .001 to .01 of the first model's variance",
    printed=(0.001, 0.01), bounds=(0.001, 0.01),
)  # fmt: skip
SPLICING += (_regression(experiment="splicing", batch_size=1),)

_faces = partial(Claim, experiment="face-age", metric="rmse", horizon=2000)
_centre, _right = partial(_faces, batch_size=100), partial(_faces, batch_size=200)
_per_iteration = "DEIMOS has a lower RMSE than {} in most iterations"
FACE_AGE = (
    *_beats(_centre, "Fig. 2 centre", {"max_variance": 8e-3, "random": 8e-3}, "p < {}"),
    *_beats(_right, "Fig. 2 right", {"max_variance": 9e-3, "random": 9e-3}, "p < {}"),
    *_ahead(_centre, "Fig. 2 centre", _per_iteration, ("max_variance", "random"), MOST),
    *_ahead(_right, "Fig. 2 right", _per_iteration, ("max_variance", "random"), MOST),
    _regression(experiment="face-age", batch_size=100),
)

_digits = partial(Claim, metric="accuracy", better="higher")
_pair = partial(_digits, experiment="mnist-7-vs-9", batch_size=25, horizon=500)
_single = partial(_digits, experiment="mnist-7-vs-9", batch_size=1, horizon=200)
# The batch after the last evaluation is never acquired, so diversity ends one batch earlier.
_diverse = partial(
    Claim, says="DEIMOS has higher batch diversity in almost all iterations", kind="more_diverse",
    batch_size=25, metric="diversity", methods=("batchbald", "max_entropy"), printed=(0.01,),
    template="p < {}", better="higher",
)  # fmt: skip
_most_diverse = partial(
    Claim, says="Random batches are the most diverse", kind="outperforms", batch_size=25,
    metric="diversity", leader="random", methods=("deimos", "batchbald", "max_entropy"),
    template="highest", better="higher",
)  # fmt: skip
_confident = partial(
    Claim, "§5.3", "That is since many pairs of points are predicted with certainty", "mean",
    batch_size=25, metric="share_confident", leader="random", methods=("random",), bounds=(0.5, 1),
    template="in large part: half or more of it, with certainty above .99, as we read it",
)  # fmt: skip
_fast = partial(
    Claim, says="DEIMOS is computationally efficient: its batches take less time",
    kind="faster", batch_size=25, metric="acquire_seconds", horizon=475,
    methods=("k_center", "batchbald"), template="efficient",
)  # fmt: skip
# The paper names no experiment: we look at the first 200 labels of both, as B2 does.
_probabilities = partial(
    _digits, "§3.4", "DEIMOS does better on probabilities than on logits", "outperforms",
    batch_size=25, methods=("deimos_logits",), template="better",
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
    *_ahead(_pair, "§5.3", "DEIMOS is better than {} throughout", ("random",), NEARLY_ALL),
    _pair("Fig. 3 c", "DEIMOS asks for class prototypes early and for outliers late", "rises",
          metric="hardness", methods=("deimos",), horizon=475, template="early, late"),
    _diverse("Fig. 3 d", experiment="mnist-7-vs-9", horizon=475),
    _most_diverse("§5.3", experiment="mnist-7-vs-9", horizon=475),
    _confident(experiment="mnist-7-vs-9", horizon=475),
    _pair("Fig. 3 f", "No significant difference between |X_samp| = 500, 2500 and 5000",
          "no_difference", methods=("deimos_500", "deimos_5000"), template="not significant"),
    *_rows(_single, "Tab. 2", TABLE_2),
    *_beats(_single, "Tab. 2", TABLE_2_P),
    *_ahead(_single, "App. B", "DEIMOS is better than {} in most iterations",
            ("random", "k_center", "bald"), MOST),
    _single("App. B", "Maximum entropy is comparable to DEIMOS", "no_difference",
            methods=("max_entropy",), template="comparable"),
    _quarter(says="A fourth of random's data suffices to reach 0.97", threshold=0.97),
    _quarter(says="A fourth of random's data suffices to reach 0.975", threshold=0.975),
    _probabilities(experiment="mnist-7-vs-9", horizon=200),
    _smoothing(experiment="mnist-7-vs-9", batch_size=25),
    _fast("Abstract, §6", experiment="mnist-7-vs-9"),
)  # fmt: skip

_ten = partial(_digits, experiment="mnist-0-to-9", batch_size=25, horizon=1000)
MNIST_0_TO_9 = (
    *_beats(_ten, "Fig. 3 b", {"random": 9e-3, "max_entropy": 3e-3}),
    _ten("§5.3", "DEIMOS outperforms random and maximum entropy acquisition", "outperforms",
         methods=("random", "max_entropy"), printed=(9e-3,), template="p < {}"),
    _ten("§5.3", "DEIMOS is comparable to the state of the art: BatchBALD and robust k-Center",
         "no_difference", methods=("batchbald", "k_center"), template="comparable"),
    _ten("§5.3", "DEIMOS is comparable to BatchBALD after the first iterations", "no_difference",
         methods=("batchbald",), start=250, template="in most, as we read it from 250"),
    _ten("§5.3", "BatchBALD slightly outperforms the others early on", "outperforms",
         leader="batchbald", methods=("deimos", "random", "max_entropy", "k_center"), horizon=250,
         template="the first 250, as we read it"),
    _diverse("Fig. 3 e", experiment="mnist-0-to-9", horizon=975),
    _most_diverse("§5.3", experiment="mnist-0-to-9", horizon=975),
    _confident(experiment="mnist-0-to-9", horizon=475),
    _probabilities(experiment="mnist-0-to-9", horizon=200),
    _smoothing(experiment="mnist-0-to-9", batch_size=25),
    _fast("Abstract, §6", experiment="mnist-0-to-9"),
)  # fmt: skip

_appendix = partial(Claim, experiment="greedy-vs-optimal", kind="within", methods=("deimos",))
_example = partial(_appendix, "App. A", batch_size=2, repeats=1)
_figure = partial(_appendix, "Fig. A.1", repeats=SEEDS)
APPENDIX_A = (
    _example(says="Greed takes point 2 of the 3 × 3 example first", metric="example_first",
             printed=(2,), template="point {}", bounds=(2, 2)),
    _example(says="Then points 1 and 3 tie", metric="example_tie", template="equal",
             bounds=(-1e-9, 1e-9)),
    _example(says="Greed removes 16.9 of the 3 × 3 example's variance", metric="example_greedy",
             printed=(16.9,), template="{}", bounds=(16.85, 16.95)),
    _example(says="The best pair removes 19.6 of it", metric="example_optimal",
             printed=(19.6,), template="{}", bounds=(19.55, 19.65)),
    _example(says="Greed achieves around 86% of the best", metric="example_ratio",
             printed=(0.86,), template="{:.0%}", bounds=(0.855, 0.865)),
    *(_figure(says=f"All ratios are above 0.97: batch size {b}, {n} samples a point",
              batch_size=b, metric=f"lowest_ratio_{n}",
              printed=(0.97,), template="above {}", bounds=(0.97, inf))
      for b in (2, 5, 10) for n in (3, 50)),
    # A ratio of one may exceed it by rounding.
    _figure(says="All ratios are between 0.99999 and 1: batch size 10, 3 samples a point",
            batch_size=10, metric="lowest_ratio_3",
            printed=(0.99999, 1), template="{} to {}", bounds=(0.99999, 1 + 1e-9)),
)  # fmt: skip

CLAIMS = SYNTHETIC_1D + SPLICING + FACE_AGE + MNIST_7_VS_9 + MNIST_0_TO_9 + APPENDIX_A
