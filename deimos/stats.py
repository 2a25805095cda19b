"""Who wins, and is it chance: App. C's test, labels-to-reach, and a test with the run as the unit.

Each function reads the tidy table of one experiment, batch size and metric. The iteration is
`n_acquired`. What a table cannot answer raises `Undecidable`, a ValueError whose sentence says what
is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, nan, pi, sqrt
from typing import Literal
from warnings import catch_warnings, simplefilter

import numpy as np
from jaxtyping import Float, Shaped

from deimos.extras import extra

with extra("reproduce"):
    import pandas as pd
    from scipy.optimize import minimize_scalar
    from scipy.stats import chi2, norm, t, ttest_1samp
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams
    from statsmodels.stats.multitest import multipletests


class Undecidable(ValueError):
    """What the table lacks for this question, in one sentence."""


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
    interval: tuple[float, float]


def likelihood_ratio(
    table: pd.DataFrame, method: str, reference: str = "deimos"
) -> LikelihoodRatio:
    """Does the choice of method matter, given the iteration? (App. C)

    Null: score ~ 1 + (1 | iteration); alternative: score ~ 1 + method + (1 | iteration); both by
    maximum likelihood, compared by χ² with 1 degree of freedom. As in the paper the repeats count
    as independent given the iteration, which they are not: `run_level_test` stands beside it.
    All rows of the two methods are used, so cut the table where one method stops first.
    """
    check(table, method, reference)
    rows = table[table.method.isin([method, reference])]
    rows = rows.sort_values(["n_acquired", "method", "repeat"])
    iteration = rows.n_acquired.to_numpy()
    side = np.where(rows.method == method, 0.5, -0.5)  # the slope is then method minus reference
    unit = rows.value.std(ddof=0) or 1.0
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
    so V⁻¹ = I − r/(1+mr) 11ᵀ and log|V| = log(1+mr): sums by iteration tell the likelihood of each
    r, all else at its best. One of statsmodels' searches has to stay there and agree; left alone
    they take seconds, and one calls +inf converged. At r = 0 it is ordinary least squares.
    """
    flat = OLS(score, design).fit()
    _, group, m = np.unique(iteration, return_inverse=True, return_counts=True)
    columns = np.column_stack([design, score])
    sums = np.stack([np.bincount(group, column) for column in columns.T])  # [k + 1, iterations]

    def at(log_r: float) -> tuple[float, Float[np.ndarray, " k"]]:
        weight = 1 / (np.exp(-log_r) + m)
        A = columns.T @ columns - sums * weight @ sums.T
        effects = np.linalg.solve(A[:-1, :-1], A[:-1, -1])
        residual = A[-1, -1] - effects @ A[:-1, -1]
        n = len(score)
        spread = n * (log(2 * pi * residual / n) + 1) + np.log1p(m * np.exp(log_r)).sum()
        return -spread / 2, effects

    coarse = np.linspace(-15, 15, 61)
    start = coarse[np.argmax([at(log_r)[0] for log_r in coarse])]
    near = (start - 1, start + 1)
    log_r = minimize_scalar(lambda x: -at(x)[0], bounds=near, options={"xatol": 1e-9}).x
    likelihood, effects = at(log_r)
    if likelihood <= flat.llf:
        return float(flat.llf), np.asarray(flat.params)
    there = MixedLMParams.from_components(effects, cov_re=np.exp([[log_r]]))
    model, found = MixedLM(score, design, groups=iteration), []
    for optimiser in ("lbfgs", "bfgs", "powell", "cg", "nm"):
        with catch_warnings():
            simplefilter("ignore")  # what the warnings say is checked below
            try:
                found.append(model.fit(start_params=there, reml=False, method=optimiser).llf)
            except np.linalg.LinAlgError:
                continue
        if abs(found[-1] - likelihood) < 1e-5:
            return likelihood, effects
    raise RuntimeError(f"the mixed model's likelihood is {likelihood}, by statsmodels {found}")


def run_level_test(table: pd.DataFrame, method: str, reference: str = "deimos") -> RunLevel:
    """The same question with the run as the unit: area under the curve, paired by repeat.

    A run's area is its mean score over the iterations that both runs of the pair have. p is the
    paired t-test's, exact if the differences are normal; the interval is the 95 % percentile
    bootstrap of their mean (10,000 draws, always the same), narrow with few repeats: with three
    it never leaves the range of the three. Both are nan with fewer than two pairs, and p
    when all differences are equal.
    """
    check(table, method, reference)
    rows = table[table.method.isin([method, reference])]
    paired = rows.pivot(index=["repeat", "n_acquired"], columns="method", values="value").dropna()
    if paired.empty:
        raise Undecidable(f"no repeat has both {method} and {reference} at the same iteration")
    areas = paired.groupby(level="repeat").mean()
    differences = (areas[method] - areas[reference]).to_numpy()
    n, p_value, interval = len(differences), nan, (nan, nan)
    if n > 1:
        draws = np.random.default_rng(0).choice(differences, (10_000, n)).mean(axis=1)
        interval = tuple(np.quantile(draws, [0.025, 0.975]).tolist())
        differ = np.ptp(differences) > 1e-9 * np.abs(differences).max()  # by more than rounding
        p_value = float(ttest_1samp(differences, 0).pvalue) if differ else nan
    return RunLevel(
        method, reference, differences.mean().item(), tuple(differences.tolist()), p_value, interval
    )


def paired_differences(table: pd.DataFrame, reference: str = "deimos") -> pd.DataFrame:
    """`run_level_test` of every other method in the table: a row each, in order of appearance.

    `effect` with `low` and `high`, the ends of its 95 % interval by Student's t (and so it excludes
    0 where p < 0.05), `repeats` paired, `p` and Holm's `holm`, for as many tests as there are rows.
    A method whose every run scores as the reference's has p = 1. nan with fewer than two pairs.
    """
    check(table, reference)
    rows = []
    for method in table.method.unique():
        if method == reference:
            continue
        test = run_level_test(table, method, reference)
        n, d = len(test.differences), np.array(test.differences)
        half = t.ppf(0.975, n - 1) * d.std(ddof=1) / sqrt(n) if n > 1 else nan
        p = 1.0 if n > 1 and not d.any() else test.p_value
        rows.append((method, n, test.effect, test.effect - half, test.effect + half, p))
    found = pd.DataFrame(rows, columns=["method", "repeats", "effect", "low", "high", "p"])
    if found.empty:
        raise Undecidable(f"no runs of anything but {reference!r}")
    holm = multipletests(found.p.fillna(1.0), method="holm")[1]
    return found.assign(holm=np.where(found.p.isna(), nan, holm))


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
    check(table)
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


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`mean`, sample `sd` (ddof=1, as the figures shade) and `n` repeats by method, n_acquired."""
    check(table)
    by_point = table.groupby(["method", "n_acquired"], sort=False).value
    return by_point.agg(mean="mean", sd="std", n="count").reset_index()


def at_budgets(table: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """Mean ± sample sd at a glance: a row for each budget (at most `most`), a column a method."""
    points = summary(table)
    budgets = np.unique(points.n_acquired)
    shown = budgets[np.unique(np.linspace(0, len(budgets) - 1, most).round().astype(int))]
    points = points[points.n_acquired.isin(shown)].copy()
    points["score"] = [
        f"{row.mean:.4g} ± {row.sd:.2g}" if row.n > 1 else f"{row.mean:.4g}"
        for row in points.itertuples()
    ]
    wide = points.pivot(index="n_acquired", columns="method", values="score").fillna("")
    return wide[points.method.unique()].rename_axis(columns=None)


def gaps(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """How far our mean curves lie from the authors': a row for each curve that both have.

    `gap` is where they lie furthest apart, ours minus theirs; `spread` the authors' sample sd over
    repeats, its root mean square along the curve (at single points, with three repeats, it can be
    almost 0); `gap/spread` the one in units of the other.
    """
    curve = ["experiment", "batch_size", "metric", "method"]
    ours = table.groupby([*curve, "n_acquired"], sort=False).value.mean()
    theirs = published.groupby([*curve, "n_acquired"], sort=False).value.agg(["mean", "std"])
    both = theirs.join(ours.rename("ours"), how="inner")
    rows = []
    for name, points in both.groupby(curve, sort=False):
        apart = (points.ours - points["mean"]).droplevel(curve)
        at, spread = apart.abs().idxmax(), (points["std"] ** 2).mean() ** 0.5
        rows.append((*name, len(points), apart[at], at, spread, apart[at] / spread))
    columns = [*curve, "points", "gap", "at", "spread", "gap/spread"]
    return pd.DataFrame(rows, columns=columns)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """What a table of many experiments holds: repeats and acquisitions of each method."""
    by_method = table.groupby(["experiment", "batch_size", "method"], sort=False)
    wide = by_method.agg(repeats=("repeat", "nunique"), acquired=("n_acquired", "max"))
    return wide.reset_index()


def check(table: pd.DataFrame, *methods: str) -> None:
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
