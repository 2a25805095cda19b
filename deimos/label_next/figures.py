"""Pictures of a round: what each pick adds, where the picks lie, what they look like."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from deimos.figures import FigurePNG
from deimos.label_next.rounds import PlaneView

BLUE, ORANGE, GREEN, GREY = (*sns.color_palette("colorblind", 3), (0.75, 0.75, 0.75))
BASES = dict(zip("ACGT", (GREEN, BLUE, ORANGE, (0.8, 0.2, 0.2)), strict=True))


def improvement(gains: Sequence[float], title: str = "") -> Figure:
    """Expected improvement by rank, and as a share of the first pick's on the right."""
    figure = FigurePNG(figsize=(5.2, 3.6), layout="constrained")
    axes, ranks = figure.subplots(), np.arange(1, len(gains) + 1)
    axes.bar(ranks, gains, width=1.0, color=BLUE, edgecolor="white", linewidth=0.3)
    axes.set(xlabel="pick", ylabel="expected improvement", xlim=(0.4, len(gains) + 0.6))
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


def from_above(picture: PlaneView, title: str = "") -> Figure:
    """Pool, labelled points and picks in the plane of the network's two main directions."""
    figure = FigurePNG(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*picture.pool.T, s=4, color=GREY, linewidths=0, label="pool")
    axes.scatter(*picture.labelled.T, s=10, color="black", linewidths=0, label="labelled")
    n = len(picture.picked)
    shades = [(*ORANGE, 1 - 0.7 * i / n) for i in range(n)]  # the first are the strongest
    axes.scatter(
        *picture.picked.T, s=26, c=shades, edgecolors=ORANGE, linewidths=0.6, label="picked"
    )
    axes.set(xticks=[], yticks=[], xlabel="first component", ylabel="second")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8, markerscale=1.3, loc="best")
    return figure


def thumbnails(
    images: UInt8[Tensor, "b *size"], captions: Sequence[str], columns: int = 12, title: str = ""
) -> Figure:
    """Images by rank, a caption under each."""
    rows = -(-len(images) // columns)
    figure = FigurePNG(figsize=(0.8 * columns, 1.02 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        grey = image.dim() == 2
        axes.imshow(image.numpy() if grey else image.movedim(0, 2).numpy(), cmap="gray_r")
        axes.set_title(caption, fontsize=7, pad=2)
    figure.suptitle(title, fontsize=9)
    return figure


def composition(
    picked: UInt8[Tensor, "b L"], pool: UInt8[Tensor, "n L"], title: str = ""
) -> Figure:
    """At each position how often the picks have each base, and beside it the pool."""
    figure = FigurePNG(figsize=(9, 2.9), layout="constrained")
    for axes, codes, name in zip(
        figure.subplots(2, 1, sharex=True), (picked, pool), ("picked", "pool"), strict=True
    ):
        bottom, position = np.zeros(codes.shape[1]), np.arange(1, codes.shape[1] + 1)
        for number, (base, colour) in enumerate(BASES.items()):
            height = frequencies(codes, number)
            fixed = frequencies(pool, number) == 1  # says nothing: the same in all of them
            for where, alpha in ((fixed, 0.25), (~fixed, 1.0)):
                label = base if alpha == 1 else None
                axes.bar(position[where], height[where], 1.0, bottom[where], color=colour,
                         alpha=alpha, label=label)  # fmt: skip
            bottom += height
        axes.set(ylabel=name, yticks=[0, 1], xlim=(0.5, len(bottom) + 0.5), ylim=(0, 1))
        axes.spines[:].set_visible(False)
    axes.set_xlabel("position")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right", frameon=False)
    figure.suptitle(title, fontsize=9)
    return figure


def frequencies(codes: UInt8[Tensor, "n L"], number: int) -> Float[np.ndarray, " L"]:
    """How often each position has the base of this number."""
    return (codes == number).double().mean(0).numpy()


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
