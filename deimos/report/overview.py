"""Draw the paper at a glance: every experiment as one small panel, ours and the authors' curves."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deimos.report.figures import COLOURS, LABELS, FigurePNG, curves_into, first_model_into
from deimos.report.paper import METHODS
from deimos.tracking import Evidence

PANELS = {
    "One dimension: where it looks": ("synthetic-1d", 5, ""),
    "5' splicing": ("splicing", 1, "mse"),
    "Face age": ("face-age", 100, "rmse"),
    "MNIST 7 vs 9": ("mnist-7-vs-9", 25, "accuracy"),
    "MNIST 0-9": ("mnist-0-to-9", 25, "accuracy"),
    "Greedy over optimal (App. A)": ("greedy-vs-optimal", 10, "ratio_50"),
}
SHOWN = ("deimos", "random", "max_variance", "max_entropy", "batchbald", "k_center")


def overview(evidence: Evidence) -> Figure:
    """Draw six panels of whatever there is; a panel without runs says so.

    Solid lines are means over our repeats, dashed ones the authors'. Where our runs are on other
    data than the paper's, the panel's title names them and the authors' curves are left out.
    """
    figure = FigurePNG(figsize=(11, 5.6), layout="constrained")
    for axes, (title, place) in zip(figure.subplots(2, 3).flat, PANELS.items(), strict=True):
        _panel(axes, title, evidence, *place)
    shown = [m for m in SHOWN if m in set(evidence.table.method)]
    for method in shown:
        figure.axes[0].plot([], [], color=COLOURS[method], label=METHODS[method])
    figure.axes[0].plot([], [], color="grey", linestyle="--", linewidth=0.8, label="the authors'")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    wanted = [METHODS[method] for method in shown] + ["the authors'"]
    by_label = dict(zip(labels, handles, strict=True))
    figure.legend(
        [by_label[name] for name in wanted], wanted, ncols=len(wanted), frameon=False,
        loc="outside lower center", fontsize=9,
    )  # fmt: skip
    return figure


def _panel(
    axes: Axes, title: str, evidence: Evidence, experiment: str, batch_size: int, metric: str
) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    rows = evidence.table[
        (evidence.table.experiment == experiment) & (evidence.table.batch_size == batch_size)
    ]
    if rows.empty:
        axes.text(0.5, 0.5, "no runs", ha="center", va="center", transform=axes.transAxes)
    elif not metric:
        first_model_into(axes, rows)
        axes.set_xlabel("x", fontsize=8)
    elif metric.startswith("ratio"):
        ratios = rows[rows.metric == metric].value
        axes.hist(ratios, bins=30, color=COLOURS["deimos"])
        axes.set_xlabel(f"share of the best batch's gain (lowest {ratios.min():.3f})", fontsize=8)
    else:
        _curves(axes, rows[rows.metric == metric], evidence, experiment, batch_size, metric)
        title = f"{title}, batches of {batch_size}" if batch_size > 1 else title
    origin = evidence.origins.get(experiment)
    other = f" (on {origin.source})" if origin is not None and origin.stand_in else ""
    axes.set_title(f"{title}{other}", fontsize=9)


def _curves(
    axes: Axes,
    rows: pd.DataFrame,
    evidence: Evidence,
    experiment: str,
    batch_size: int,
    metric: str,
) -> None:
    published = evidence.published
    theirs = published[
        (published.experiment == experiment)
        & (published.batch_size == batch_size)
        & (published.metric == metric)
    ]
    shown = rows[rows.method.isin(SHOWN)]
    curves_into(axes, shown, theirs[theirs.method.isin(SHOWN)], shade=False)
    axes.set_xlabel("points acquired", fontsize=8)
    axes.set_ylabel(LABELS[metric], fontsize=8)
