"""Decide who wins: App. C's test, a test with the run as the unit, labels to reach a score.

Each function reads the tidy table of one experiment, batch size and metric. The iteration is
`n_acquired`. What a table cannot answer raises `Undecidable`, a ValueError whose sentence says what
is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, log, nan, pi, sqrt
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from deimos.extras import extra

with extra("reproduce"):
    import pandas as pd
    from scipy.optimize import minimize_scalar
    from scipy.stats import chi2, norm, t, ttest_1samp
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams
    from statsmodels.stats.power import TTestPower

MOST_REPEATS = 10_000  # more than anybody runs


class Undecidable(ValueError):
    """A question that the table cannot answer; its sentence says what is missing."""


@dataclass(frozen=True)
class LikelihoodRatio:
    """`effect` is method minus reference, in the metric's units."""

    method: str
    reference: str
    effect: float
    chi2: float
    df: int
    p_value: float  # 0.0 where it underflows; log10_p is then still a number
    log10_p: float


@dataclass(frozen=True)
class RunLevel:
    """`effect` is the mean of `differences`, method minus reference, one for each repeat."""

    method: str
    reference: str
    effect: float
    differences: tuple[float, ...]
    p_value: float
    interval: tuple[float, float]  # 95 %, by Student's t

    @property
    def sd(self) -> float:
        """Sample standard deviation of the differences; nan of fewer than two."""
        return float(np.std(self.differences, ddof=1)) if len(self.differences) > 1 else nan


def likelihood_ratio(
    table: pd.DataFrame, method: str, reference: str = "deimos"
) -> LikelihoodRatio:
    """Test whether the choice of method matters, given the iteration (App. C).

    Null: score ~ 1 + (1 | iteration); alternative: score ~ 1 + method + (1 | iteration); both by
    maximum likelihood, compared by χ² with 1 degree of freedom. As in the paper the repeats count
    as independent given the iteration, which they are not: `run_level_test` stands beside it, and
    `false_positives` says what that costs. All rows of the two methods are used, so cut the table
    where one method stops first.
    """
    check_table(table, method, reference)
    rows = table[table.method.isin([method, reference])]
    rows = rows.sort_values(["n_acquired", "method", "repeat"])
    iteration = rows.n_acquired.to_numpy()
    side = np.where(rows.method == method, 0.5, -0.5)  # the slope is then method minus reference
    unit = rows.value.std(ddof=0) or 1.0
    if unit < 1e-12 * rows.value.abs().max():
        raise Undecidable("scores do not vary within iterations, but for rounding")
    score = ((rows.value - rows.value.mean()) / unit).to_numpy()
    _check_spread(score, side, iteration)

    one = np.ones_like(side)
    null, _ = _fit(score, np.stack([one], axis=1), iteration)
    alternative, (_, slope) = _fit(score, np.stack([one, side], axis=1), iteration)
    ratio = max(0.0, 2 * (alternative - null))
    # P(χ²₁ > x) = 2Φ(-√x), whose logarithm exists where the probability itself underflows.
    log10_p = (norm.logsf(sqrt(ratio)) + log(2)) / log(10)
    return LikelihoodRatio(
        method, reference, float(slope * unit), ratio, 1, float(chi2.sf(ratio, 1)), float(log10_p)
    )


def _fit(
    score: Float[np.ndarray, " n"],
    design: Float[np.ndarray, "n k"],
    iteration: Shaped[np.ndarray, " n"],
) -> tuple[float, Float[np.ndarray, " k"]]:
    """Maximum log-likelihood and fixed effects of a model with a random intercept per iteration.

    With r the intercept's variance over the noise's, V = I + r11ᵀ within an iteration of m scores,
    so V⁻¹ = (I − 11ᵀ/m) + 11ᵀ/(m(1+mr)) and log|V| = log(1+mr): sums of squares within and between
    iterations tell the likelihood of each r, all else at its best. statsmodels' likelihood of the
    same parameters has to agree; its own searches take seconds, and one calls +inf converged.
    At r = 0 it is ordinary least squares.
    """
    flat = OLS(score, design).fit()
    _, group, m = np.unique(iteration, return_inverse=True, return_counts=True)
    columns = np.column_stack([design, score])
    sums = np.stack([np.bincount(group, column) for column in columns.T])  # [k + 1, iterations]
    inner = columns - (sums / m).T[group]
    within = inner.T @ inner

    def at(log_r: float) -> tuple[float, Float[np.ndarray, " k"]]:
        A = within + sums / (m * (1 + m * np.exp(log_r))) @ sums.T
        effects = np.linalg.solve(A[:-1, :-1], A[:-1, -1])
        residual = A[-1, -1] - effects @ A[:-1, -1]
        n = len(score)
        spread = n * (log(2 * pi * residual / n) + 1) + np.log1p(m * np.exp(log_r)).sum()
        return -spread / 2, effects

    coarse = np.linspace(-15, 30, 91)
    start = coarse[np.argmax([at(log_r)[0] for log_r in coarse])]
    near = (start - 1, start + 1)
    log_r = minimize_scalar(lambda x: -at(x)[0], bounds=near, options={"xatol": 1e-9}).x
    likelihood, effects = at(log_r)
    if likelihood <= flat.llf:
        return float(flat.llf), np.asarray(flat.params)
    there = MixedLMParams.from_components(effects, cov_re=np.exp([[log_r]]))
    theirs = MixedLM(score, design, groups=iteration)
    theirs.reml, theirs.cov_pen, theirs.fe_pen = False, None, None  # maximum likelihood, plain
    agreed = float(theirs.loglike(there, profile_fe=False))
    if abs(agreed - likelihood) > 1e-5 * max(1.0, abs(likelihood)):
        raise Undecidable(
            f"the mixed model's likelihood is {likelihood:.6f} here and {agreed:.6f} by statsmodels"
        )
    return likelihood, effects


def run_level_test(table: pd.DataFrame, method: str, reference: str = "deimos") -> RunLevel:
    """Test the same with the run as the unit: mean score over the curve, paired by repeat.

    A run's mean is over the iterations that both runs of the pair have. p and the 95 % interval are
    the paired t-test's, exact if the differences are normal. Both are nan with fewer than two
    pairs, and p where all differences are equal.
    """
    check_table(table, method, reference)
    rows = table[table.method.isin([method, reference])]
    paired = rows.pivot(index=["repeat", "n_acquired"], columns="method", values="value").dropna()
    if paired.empty:
        raise Undecidable(f"no repeat has both {method} and {reference} at the same iteration")
    means = paired.groupby(level="repeat").mean()
    differences = (means[method] - means[reference]).to_numpy()
    return RunLevel(
        method, reference, differences.mean().item(), tuple(differences.tolist()),
        *paired_test(differences),
    )  # fmt: skip


def paired_test(differences: Float[np.ndarray, " n"]) -> tuple[float, tuple[float, float]]:
    """p of the paired t-test and its 95 % interval; nan where `run_level_test` says so."""
    if len(differences) < 2:
        return nan, (nan, nan)
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():  # but for rounding
        return nan, (differences.mean().item(),) * 2
    found = ttest_1samp(differences, 0)
    low, high = found.confidence_interval()
    return float(found.pvalue), (float(low), float(high))


def with_interval(effect: float, low: float, high: float, digits: str = "+.2g") -> str:
    """Write an effect with its interval, the same in every table; nan leaves the interval out.

    `digits` is the format of all three numbers.
    """
    interval = f" [{low:{digits}}, {high:{digits}}]" if isfinite(low) and isfinite(high) else ""
    return f"{effect:{digits}}{interval}"


def paired_differences(table: pd.DataFrame, reference: str = "deimos") -> pd.DataFrame:
    """Run `run_level_test` of every other method in the table: a row each, as they appear.

    `effect` with `low` and `high`, the ends of its 95 % interval by Student's t (and so it excludes
    0 where p < 0.05), `repeats` paired, `p` and Holm's `holm`, for as many tests as there are rows.
    A method whose every run scores as the reference's has p = 1. nan with fewer than two pairs.
    """
    check_table(table, reference)
    rows = []
    for method in table.method.unique():
        if method == reference:
            continue
        test = run_level_test(table, method, reference)
        n = len(test.differences)
        p = 1.0 if n > 1 and not any(test.differences) else test.p_value
        rows.append((method, n, test.effect, *test.interval, p))
    found = pd.DataFrame(rows, columns=["method", "repeats", "effect", "low", "high", "p"])
    if found.empty:
        raise Undecidable(f"no runs of anything but {reference!r}")
    return found.assign(holm=holm(found.p))


def holm(p_values: Iterable[float]) -> Float[np.ndarray, " n"]:
    """Correct the p-values of one family for their number (Holm, 1979); nan stays nan.

    The k-th smallest of m is multiplied by m − k + 1, and is never below one that is smaller.
    """
    p = np.array(list(p_values), dtype=float)
    filled = np.nan_to_num(p, nan=1.0)
    order = filled.argsort(kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(filled[order] * np.arange(len(p), 0, -1))
    return np.where(np.isnan(p), nan, corrected.clip(max=1.0))


def t_quantile(freedom: int) -> float:
    """The factor between a standard error and half of a 95 % interval."""
    return float(t.ppf(0.975, freedom))


def repeats_needed(effect: float, sd: float, power: float = 0.8, level: float = 0.05) -> int | None:
    """Count the pairs that show `effect` with this power in a two-sided paired t-test.

    `sd` is that of the differences between paired runs. None where it takes more than
    `MOST_REPEATS`, or where effect or sd is not known.
    """
    if not np.isfinite([effect, sd]).all() or effect == 0:
        return None
    if abs(effect) > 50 * sd:  # for which statsmodels has no number
        return 2

    def enough(n: int) -> bool:
        return bool(TTestPower().power(abs(effect) / sd, n, level) >= power)

    most = 2
    while most < MOST_REPEATS and not enough(most):
        most *= 2
    if not enough(most):
        return None
    fewest = most // 2 + 1 if most > 2 else 2
    # One by one, since for some n statsmodels has no number.
    return next(n for n in range(fewest, most + 1) if enough(n))


def false_positives(
    table: pd.DataFrame,
    method: str,
    reference: str = "deimos",
    level: float = 0.05,
    draws: int = 2_000,
    test: Literal["likelihood_ratio", "run_level"] = "likelihood_ratio",
) -> float:
    """Estimate how often a test at `level` sees a difference between two methods that have none.

    Under the null the runs of both methods are draws of one Gaussian process: its mean is the mean
    curve of both, its covariance between iterations that of all runs of the table, whatever their
    method, around their method's mean. A draw has as many runs a method as the table. The paper's
    test takes iterations for independent; the closer neighbouring ones are tied, the more often it
    is wrong. Iterations that not every run has are left out.
    """
    check_table(table, method, reference)
    curves = table.pivot(index=["method", "repeat"], columns="n_acquired", values="value")
    curves = curves.dropna(axis=1)
    by_method = curves.groupby(level="method")
    runs = by_method.size()
    n = int(runs[method])
    if curves.shape[1] < 2 or n < 2 or n != runs[reference]:
        raise Undecidable("a null simulation takes two runs a method or more, as many of each")
    several = (by_method.transform("size") > 1).to_numpy()
    residuals = (curves - by_method.transform("mean")).to_numpy()[several]
    freedom = int((runs[runs > 1] - 1).sum())
    weights = np.random.default_rng(0).standard_normal((draws, 2, n, len(residuals)))
    centre = curves.loc[[method, reference]].to_numpy().mean(axis=0)
    simulated = weights @ residuals / sqrt(freedom) + centre  # [draws 2 n iterations]
    if test == "run_level":
        means = simulated.mean(axis=-1)
        return float((ttest_1samp(means[:, 0] - means[:, 1], 0, axis=1).pvalue < level).mean())
    return float((chi2.sf(_balanced_ratio(simulated), 1) < level).mean())


def _balanced_ratio(scores: Float[np.ndarray, "draws 2 n t"]) -> Float[np.ndarray, " draws"]:
    """χ² of `likelihood_ratio` in closed form, for tables in which every run has every iteration.

    With t iterations of k = 2n scores, the sums of squares between and within iterations are
    independent, SSB/t estimates σ² + kσ_u² and SSW/(t(k−1)) estimates σ²; where the first is the
    smaller, σ_u² = 0 and all is pooled. The method's effect takes tk(d/2)² from SSW.
    """
    draws, _, n, t = scores.shape
    k = 2 * n
    by_iteration = scores.reshape(draws, k, t).mean(axis=1)
    between = k * ((by_iteration - by_iteration.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    within = ((scores - by_iteration[:, None, None]) ** 2).sum(axis=(1, 2, 3))
    d = scores[:, 0].mean(axis=(1, 2)) - scores[:, 1].mean(axis=(1, 2))

    def twice_likelihood(within: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        pooled = -t * k * np.log((between + within) / (t * k))
        split = -t * np.log(between / t) - t * (k - 1) * np.log(within / (t * (k - 1)))
        return np.where(between / t < within / (t * (k - 1)), pooled, split)

    return twice_likelihood(within - t * k * d**2 / 4) - twice_likelihood(within)


def acquisitions_to_reach(
    table: pd.DataFrame,
    thresholds: Iterable[int | float],
    better: Literal["lower", "higher"] = "lower",
    sustained: bool = False,
) -> pd.DataFrame:
    """Number acquired when the mean over repeats first reaches each threshold (Tables 1 and 2).

    One column for each method, unsmoothed; <NA> where it is never reached. `sustained` asks for
    the first point from which the mean never falls behind again. The mean is taken
    only where every repeat of the method has a value.
    """
    check_table(table)
    if better not in ("lower", "higher"):
        raise ValueError(f"better is 'lower' or 'higher', got {better!r}")
    thresholds = list(thresholds)
    reached = {}
    for method, rows in table.groupby("method", sort=False):
        runs = rows.pivot(index="n_acquired", columns="repeat", values="value").dropna()
        mean = runs.mean(axis=1).sort_index()
        column = []
        for threshold in thresholds:
            good = mean <= threshold if better == "lower" else mean >= threshold
            if sustained:
                good = good[::-1].cummin()[::-1]
            column.append(good.idxmax() if good.any() else pd.NA)
        reached[method] = pd.array(column, dtype="Int64")
    return pd.DataFrame(reached, index=pd.Index(thresholds, name="threshold"))


def check_table(table: pd.DataFrame, *methods: str) -> None:
    if table.empty:
        raise Undecidable("the table has no rows")
    for column in ("experiment", "batch_size", "metric"):
        found = table[column].unique().tolist()
        if len(found) > 1:
            raise Undecidable(f"one {column} at a time is compared, got {found}")
    present = table.method.unique().tolist()
    for method in methods:
        if method not in present:
            raise Undecidable(f"no runs of {method!r}, the table has {present}")
    if len(set(methods)) < len(methods):
        raise Undecidable(f"a method is compared with another one, got {methods[0]!r} twice")
    bad = int((~np.isfinite(table.value)).sum())
    if bad:
        raise Undecidable(f"{bad} of {len(table)} values are NaN or infinite")
    twice = int(table.duplicated(["method", "repeat", "n_acquired"]).sum())
    if twice:
        raise Undecidable(f"{twice} rows repeat a method, repeat and n_acquired of another row")


def _check_spread(
    score: Float[np.ndarray, " n"],
    side: Float[np.ndarray, " n"],
    iteration: Shaped[np.ndarray, " n"],
) -> None:
    """A likelihood is bounded only if something is left within iterations besides the method."""
    within = pd.DataFrame({"score": score, "side": side})
    within -= within.groupby(iteration).transform("mean")
    both = (within.side**2).sum()
    if both == 0:
        raise Undecidable("the two methods were never evaluated at the same iteration")
    left = (within.score**2).sum() - (within.score * within.side).sum() ** 2 / both
    if left < 1e-12 * len(score):
        raise Undecidable("scores do not vary within iterations beyond the method's effect")
