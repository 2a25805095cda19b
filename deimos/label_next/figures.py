"""Pictures of a round: what each pick adds, where the picks lie, what they look like."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from deimos.label_next.rounds import PlaneView
from deimos.report.figures import BLUE, GREEN, GREY, ORANGE, FigurePNG

BASES = dict(zip("ACGT", (GREEN, BLUE, ORANGE, (0.8, 0.2, 0.2)), strict=True))


def draw_plane(picture: PlaneView, title: str = "") -> Figure:
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
    """Share of the sequences that have the base of this number, at each position."""
    return (codes == number).double().mean(0).numpy()
