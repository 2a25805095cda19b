"""Draw the paper's figures: a tidy table in, a Figure out.

Every function takes the tidy table of `tracking.table` (or the authors' curves in the same layout)
and returns a matplotlib Figure; nothing is computed here but means and standard deviations, and
what `stats` says of paired differences.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Num, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from deimos import stats
from deimos.extras import extra
from deimos.report import paper
from deimos.report.verdicts import QUESTIONS
from deimos.tracking import Evidence

with extra("reproduce"):
    import pandas as pd
    import seaborn as sns
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour a method, the same in every figure, told apart by colour-blind readers too.
PALETTE = [c for name in ("colorblind", "dark", "bright") for c in sns.color_palette(name)]  # 30
COLOURS = dict(zip(paper.NAMES, PALETTE, strict=False))
LABELS = {
    "accuracy": "test accuracy",
    "mse": "test MSE",
    "rmse": "test RMSE (years)",
    "diversity": "batch diversity (symmetric KL, nats)",
}

LONG, CUT = 25, 0.1  # steps of a long run, and which part of it, the first, may be cut off

BLUE, ORANGE, GREEN, GREY = (*sns.color_palette("colorblind", 3), (0.75, 0.75, 0.75))


class FigurePNG(Figure):
    """A Figure that a notebook shows without pyplot, which would keep it and show it twice."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, dpi=120)
        return content.getvalue()


def learning_curves(table: pd.DataFrame, title: str, published: pd.DataFrame) -> Figure:
    """Draw one metric against points acquired: mean over repeats, ± 1 sample sd (Figs. 2, 3, B.1).

    Dashed, as far as ours go, the means of the authors' curves of the same methods.
    """
    figure = FigurePNG(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    if curves_into(axes, table, published):
        axes.plot([], [], color="grey", linestyle="--", linewidth=0.8, label="the authors'")
    axes.set(xlabel="points acquired", ylabel=LABELS[table.metric.iloc[0]])
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure


def curves_into(
    axes: Axes, table: pd.DataFrame, published: pd.DataFrame, shade: bool = True
) -> bool:
    """Draw the mean curves, ours and the authors'; return whether there are any of theirs."""
    for method, mean, sd in _by_method(table):
        colour = COLOURS[method]
        axes.plot(mean.index, mean, color=colour, label=paper.NAMES[method])
        if shade:
            axes.fill_between(
                mean.index, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0
            )
    theirs = published[published.n_acquired <= table.n_acquired.max()]
    theirs = theirs[theirs.method.isin(table.method)]
    for method, mean, _ in _by_method(theirs):
        axes.plot(mean.index, mean, color=COLOURS[method], linestyle="--", linewidth=0.8)
    if table.n_acquired.nunique() > LONG:
        _look_at_the_end(axes, table)
    if table.metric.iloc[0] == "accuracy":
        axes.set_ylim(top=1)
    return len(theirs) > 0


def _look_at_the_end(axes: Axes, table: pd.DataFrame) -> None:
    """Show the later mean scores alone: a long run begins far from where methods differ."""
    later = table[table.n_acquired > CUT * table.n_acquired.max()]
    means = later.groupby(["method", "n_acquired"]).value.mean()
    if table.metric.iloc[0] == "accuracy":
        axes.set_ylim(bottom=means.min())
    elif table.metric.iloc[0] in ("mse", "rmse"):
        axes.set_ylim(top=means.max())


def one_dimension(table: pd.DataFrame, title: str, published: pd.DataFrame) -> Figure:
    """Draw where DEIMOS looks in one dimension, and what the five labels bring (Fig. 1)."""
    figure = FigurePNG(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    first_model_into(left, table)
    left.legend(frameon=False, fontsize=7)
    column = _fit_into(right, table, "after")
    shades = _shades(column["x_queried"])
    right.scatter(column["x_queried"], column["y_queried"], c=shades, marker="^", zorder=3)
    for axes, when in ((left, "before the batch (left)"), (right, "after the batch (right)")):
        axes.set_title(when, fontsize=9)
        axes.set_xlabel("x")
    figure.suptitle(title, fontsize=10)
    return figure


def first_model_into(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the first model, the expected improvement, and the points asked for (Fig. 1 left)."""
    column = _fit_into(axes, table, "before")
    height = [axes.get_ylim()[0]] * len(column["x_queried"])
    axes.scatter(
        column["x_queried"], height, c=_shades(column["x_queried"]), marker="^", zorder=3,
        label="asked for",
    )  # fmt: skip
    twin, orange = axes.twinx(), COLOURS["random"]
    twin.plot(column["x_pool"], column["improvement"], color=orange, linewidth=1)
    twin.set_ylabel("expected improvement / largest", color=orange, fontsize=8)


def _fit_into(axes: Axes, table: pd.DataFrame, model: str) -> dict[str, np.ndarray]:
    """Draw one of the two models with the function and the labels; return the table's columns."""
    column = {metric: rows.value.to_numpy() for metric, rows in table.groupby("metric")}
    x, mean, sd = column["x_test"], column[f"mean_{model}"], column[f"sd_{model}"]
    axes.fill_between(x, mean - sd, mean + sd, color=COLOURS["deimos"], alpha=0.2, linewidth=0)
    axes.plot(x, mean, color=COLOURS["deimos"], label="model ± 1 sd")
    axes.plot(x, column["y_test"], "k:", linewidth=1, label="function")
    axes.plot(column["x_labelled"], column["y_labelled"], "k.", markersize=3, label="labelled")
    return column


def _shades(queried: np.ndarray) -> list:
    """A colour for each point asked for, in order; the first is the darkest."""
    return sns.color_palette("rocket", len(queried))


def acquired_images(
    images: UInt8[Tensor, "total h w"], ids: pd.DataFrame, first: int = 3, last: int = 2
) -> Figure:
    """The first and the last images of each repeat, a column a repeat (Fig. 3 c).

    `ids` are those of one method and batch size, as `tracking.acquired_ids` has them.
    """
    columns = {repeat: rows.sort_values("position") for repeat, rows in ids.groupby("repeat")}
    figure = FigurePNG(
        figsize=(1.1 * len(columns) + 0.6, 1.1 * (first + last)), layout="constrained"
    )
    grid = figure.subplots(first + last, len(columns), squeeze=False)
    for column, (repeat, rows) in zip(grid.T, columns.items(), strict=True):
        shown = pd.concat([rows.head(first), rows.tail(last)])
        column[0].set_title(f"repeat {repeat}", fontsize=9)
        for axes, row in zip(column, shown.itertuples(), strict=True):
            axes.imshow(images[row.id].numpy(), cmap="gray_r")
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(f"{row.position}", fontsize=8)
    return figure


def forest(table: pd.DataFrame, title: str, published: pd.DataFrame | None = None) -> Figure:
    """Paired differences to the paper's DEIMOS, with their 95 % intervals: a row each, by question.

    Filled where Holm's correction for the number of rows leaves p below 0.05.
    """
    found = stats.paired_differences(table)
    found[["question", "answer"]] = found.method.str.split(": ", n=1, expand=True)
    colours = dict(zip(QUESTIONS, sns.color_palette("colorblind", len(QUESTIONS)), strict=True))
    groups = [(name, found[found.question == name]) for name in QUESTIONS]
    groups = [(name, rows) for name, rows in groups if len(rows)]
    figure = FigurePNG(
        figsize=(6, 1.4 + 0.2 * (len(found) + 2 * len(groups))), layout="constrained"
    )
    axes, labels = figure.subplots(), []
    axes.axvline(0, color="grey", linewidth=0.8)
    for name, rows in groups:
        labels += ["", name]
        for row in rows.itertuples():
            y, style = len(labels), {"color": colours[name], "linewidth": 1.5}
            axes.plot([row.low, row.high], [y, y], **style)
            inside = colours[name] if row.holm < 0.05 else "white"
            axes.plot(row.effect, y, "o", markerfacecolor=inside, markersize=5, **style)
            labels.append(paper.NAMES.get(row.answer, row.answer))
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in QUESTIONS else "normal")
    axes.set_ylim(len(labels), 0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    for inside, said in (("grey", "p < 0.05 after Holm"), ("white", "not")):
        axes.plot([], [], "o", color="grey", markerfacecolor=inside, markersize=5, label=said)
    axes.legend(frameon=False, fontsize=7)
    what = f"{LABELS[table.metric.iloc[0]]}, mean over the curve, less DEIMOS' as in the paper"
    repeats = f"{found.repeats.min()} repeats, paired; 95 % intervals"
    axes.set_xlabel(f"{what}\n({repeats})", fontsize=8)
    axes.set_title(title, fontsize=9)
    return figure


def ratio_histograms(table: pd.DataFrame, title: str, published: pd.DataFrame) -> Figure:
    """Greedy over optimal variance reduction, a panel for each batch and sample size (Fig. A.1)."""
    table = table[table.metric.str.startswith("ratio_")]
    samples = table.metric.str.removeprefix("ratio_").astype(int)
    panels = sorted(set(zip(samples, table.batch_size, strict=True)))
    figure = FigurePNG(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(samples.nunique(), table.batch_size.nunique(), squeeze=False)
    for axes, (n_samples, batch_size) in zip(grid.flat, panels, strict=True):
        ratios = table.value[(samples == n_samples) & (table.batch_size == batch_size)]
        _histogram(axes, ratios, f"batch size {batch_size}, {n_samples} samples a point")
    for axes in grid[:, 0]:
        axes.set_ylabel("instances")
    figure.suptitle(title, fontsize=10)
    return figure


def _histogram(axes: Axes, ratios: pd.Series, title: str) -> None:
    edges = (min(ratios.min(), 1 - 1e-6), 1.0)
    axes.hist(ratios, bins=30, range=edges, color=COLOURS["deimos"], log=True)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.tick_params(axis="x", labelsize=7, rotation=20)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(f"greedy / optimal (lowest {ratios.min():.5f})", fontsize=8)


def _by_method(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """(method, mean, sample sd) over repeats, in the order of the paper's legends."""
    for method in paper.NAMES:
        chosen = table[table.method == method]
        if len(chosen):
            values = chosen.groupby("n_acquired").value
            yield method, values.mean(), values.std().fillna(0.0)


def draw_all(evidence: Evidence) -> dict[str, Figure]:
    """Draw every figure that the evidence has something of: by name, in the paper's order."""
    drawn = {name: draw(name, evidence) for name in FIGURES}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def draw(name: str, evidence: Evidence) -> Figure | None:
    """Draw the paper's figure `name` with its scale and data in the title; None without runs."""
    title, function, subject = FIGURES[name]
    table, published = evidence.table, evidence.published
    for column, value in subject.items():
        wanted = value if isinstance(value, tuple) else (value,)
        table = table[table[column].isin(wanted)]
        published = published[published[column].isin(wanted)]
    if table.empty or table.method.unique().tolist() == ["deimos"] and function is forest:
        return None
    note = evidence.origins[subject["experiment"]].note
    return function(table, f"{title}\n({note})", published)


# The methods of Figs. 3 and B.1; DEIMOS with other sample sizes stands in Fig. 3 f alone.
_compared = ("deimos", "random", "max_entropy", "bald", "batchbald", "k_center")
_seven_nine = {"experiment": "mnist-7-vs-9", "batch_size": 25, "method": _compared}
_ten = {"experiment": "mnist-0-to-9", "batch_size": 25, "method": _compared}
# Every figure that a table can draw, in the paper's order: its title, function and rows.
Draw = Callable[[pd.DataFrame, str, pd.DataFrame], Figure]
FIGURES: dict[str, tuple[str, Draw, dict[str, Any]]] = {
    "figure-1": ("One dimension", one_dimension, {"experiment": "synthetic-1d"}),
    "figure-2-left": (
        "5' splicing, batch size 1",
        learning_curves,
        {"experiment": "splicing", "batch_size": 1, "metric": "mse"},
    ),
    "figure-2-centre": (
        "Face age, batch size 100",
        learning_curves,
        {"experiment": "face-age", "batch_size": 100, "metric": "rmse"},
    ),
    "figure-2-right": (
        "Face age, batch size 200",
        learning_curves,
        {"experiment": "face-age", "batch_size": 200, "metric": "rmse"},
    ),
    "figure-3a": (
        "MNIST 7 vs 9, batch size 25",
        learning_curves,
        {**_seven_nine, "metric": "accuracy"},
    ),
    # Beyond the paper: what the authors' search costs k-Center, and the batch size of their code.
    "figure-3a-k-center": (
        "MNIST 7 vs 9, robust k-Center between proved bounds and the authors'",
        learning_curves,
        {
            **_seven_nine,
            "method": ("deimos", "random", "k_center", "k_center_authors"),
            "metric": "accuracy",
        },
    ),
    "figure-3b": ("MNIST 0-9, batch size 25", learning_curves, {**_ten, "metric": "accuracy"}),
    "figure-3b-100": (
        "MNIST 0-9, batch size 100",
        learning_curves,
        {**_ten, "batch_size": 100, "metric": "accuracy"},
    ),
    "figure-3d": (
        "Batch diversity, MNIST 7 vs 9",
        learning_curves,
        {**_seven_nine, "metric": "diversity"},
    ),
    "figure-3e": ("Batch diversity, MNIST 0-9", learning_curves, {**_ten, "metric": "diversity"}),
    "figure-3f": (
        "MNIST 7 vs 9, |X_samp| = 500, 2,500 and 5,000",
        learning_curves,
        {
            **_seven_nine,
            "method": ("deimos", "deimos_500", "deimos_5000"),
            "metric": "accuracy",
        },
    ),
    "figure-A1": (
        "Greedy against the best batch",
        ratio_histograms,
        {"experiment": "greedy-vs-optimal"},
    ),
    "figure-B1": (
        "MNIST 7 vs 9, batch size 1",
        learning_curves,
        {**_seven_nine, "batch_size": 1, "metric": "accuracy"},
    ),
    # Beyond the paper: what it leaves open.
    "what-matters": (
        "What matters, MNIST 7 vs 9",
        forest,
        {"experiment": "what-matters", "batch_size": 25, "metric": "accuracy"},
    ),
}


def improvement(gains: Sequence[float], title: str = "") -> Figure:
    """Expected improvement by rank, and as a share of the first pick's on the right."""
    figure = FigurePNG(figsize=(5.2, 3.6), layout="constrained")
    axes, ranks = figure.subplots(), np.arange(1, len(gains) + 1)
    axes.bar(ranks, gains, width=1.0, color=BLUE, edgecolor="white", linewidth=0.3)
    axes.set(xlabel="pick", ylabel="expected improvement", xlim=(0.4, len(gains) + 0.6))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top"]].set_visible(False)
    axes.set_title(title, fontsize=9)
    first = gains[0] or 1.0
    share = axes.secondary_yaxis("right", functions=(lambda y: y / first, lambda s: s * first))
    share.set_ylabel("share of the first")
    if len(gains) > 20:  # the first picks would hide all others
        axes.set_yscale("log")
        floor = max(min(gains), 1e-6 * first) / 2
        axes.set_ylim(floor, 2 * first)
    return figure


def thumbnails(
    images: Num[Tensor, "b *size"], captions: Sequence[str], columns: int = 12, title: str = ""
) -> Figure:
    """Images by rank, a caption above each: from black to white, as a viewer shows them.

    White is 255 of bytes; of other numbers the largest there is, or 1, and black the least, or 0.
    """
    white = 255.0 if images.dtype == torch.uint8 else max(1.0, images.max().item())
    black = min(0.0, images.min().item())
    images = (images.float() - black) / (white - black)
    rows = -(-len(images) // columns)
    figure = FigurePNG(figsize=(0.8 * columns, 1.02 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        shown = image if image.dim() == 2 else image.movedim(0, 2)
        axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(caption, fontsize=7, pad=2)
    figure.suptitle(title, fontsize=9)
    return figure


def before_and_after(
    table: pd.DataFrame, n_before: int, batch_size: int, title: str = ""
) -> Figure:
    """The accuracy of every repeat before the batch, with it, and with a random one instead."""
    figure = FigurePNG(figsize=(4.2, 3.2), layout="constrained")
    axes, scores = figure.subplots(), table.pivot(index="repeat", columns="metric", values="value")
    for column, colour, name in (
        ("with_a_random_batch", ORANGE, "random batch"),
        ("with_the_picks", BLUE, "picked by expected improvement"),
    ):
        lines = scores[["before", column]].dropna().T
        axes.plot([n_before, n_before + batch_size], lines, "o-", color=colour, linewidth=1)
        axes.plot([], [], "o-", color=colour, label=name)
    axes.set(xlabel="labels", ylabel="test accuracy", xticks=[n_before, n_before + batch_size])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure
