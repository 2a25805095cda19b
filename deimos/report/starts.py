"""B3 by labelled points at the start: low budgets turn rankings of methods round (Lüth et al.).

Compared as in `alternatives`, each start by itself, over the methods that ran from all starts.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deimos import stats
from deimos.report.alternatives import (
    OTHER_BUDGETS,
    REFERENCES,
    RIVALS,
    length_of,
    paired,
    start_of,
)
from deimos.report.figures import COLOURS, FigurePNG
from deimos.report.paper import NAMES


def by_labels() -> dict[str, dict[int, Path]]:
    """Archives by labels at the start, few first, of the digits that have more than one start."""
    found: dict[str, dict[int, Path]] = {}
    for file in RIVALS:
        digits, n_labelled, changed = start_of(file)
        if not changed:
            found.setdefault(digits, {})[n_labelled] = file
    return {
        digits: dict(sorted(files.items()))
        for digits, files in found.items()
        if {*files.values()} & {*OTHER_BUDGETS}
    }


def leads(reference: str) -> pd.DataFrame:
    """Mean accuracy over the curve less the reference's, as `paired`; a row a method and start."""
    found = []
    for digits, files in by_labels().items():
        rows = [paired(file, reference).assign(digits=digits, n=n) for n, file in files.items()]
        everywhere = set.intersection(*({*one.method} for one in rows))
        found += [one[one.method.isin(everywhere)] for one in rows]
    return pd.concat(found, ignore_index=True)


def table() -> str:
    """Leads over random and over DEIMOS, in Markdown: digits and method a row, a start a column.

    In bold where Holm's p, over all methods of that start, is below .05.
    """
    tables = []
    for digits, files in by_labels().items():
        lines = [
            f"{digits}, {length_of(files[min(files)])}, mean accuracy over the curve:",
            "",
            f"| less | method | {' | '.join(f'from {n} labels' for n in files)} |",
            f"|---|---|{'---|' * len(files)}",
        ]
        for reference in REFERENCES:
            cells = leads(reference).query("digits == @digits")
            cells = cells.assign(cell=[_cell(row) for row in cells.itertuples()])
            rows = cells.pivot(index="method", columns="n", values="cell")
            for method in cells[cells.n == min(files)].sort_values("effect").method[::-1]:
                lines.append(
                    f"| {NAMES[reference]} | {NAMES[method]} | {' | '.join(rows.loc[method])} |"
                )
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cell(row: Any) -> str:
    said = stats.with_interval(row.effect, row.low, row.high, "+.4f")
    return f"**{said}**" if row.holm < 0.05 else said


def drawn() -> Figure:
    """Leads over random labels by labels at the start, a panel for each set of digits.

    Filled where Holm's p is below .05.
    """
    found = leads("random")
    panels = found.digits.unique()
    figure = FigurePNG(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for axes, digits in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        rows = found[found.digits == digits]
        numbers = sorted(rows.n.unique())
        axes.axhline(0, color="grey", linewidth=0.8)
        methods = [name for name in NAMES if name in {*rows.method}]
        for place, method in enumerate(methods):
            own = rows[rows.method == method].sort_values("n")
            x = [numbers.index(n) + 0.09 * (place - (len(methods) - 1) / 2) for n in own.n]
            colour = COLOURS[method]
            axes.vlines(x, own.low, own.high, color=colour, linewidth=1.2)
            axes.plot(x, own.effect, color=colour, linewidth=0.6, alpha=0.6)
            axes.scatter(
                x, own.effect, s=22, zorder=3, edgecolors=[colour],
                c=[colour if p < 0.05 else "white" for p in own.holm],
            )  # fmt: skip
            axes.plot([], [], "o-", color=colour, markersize=5, label=NAMES[method])
        axes.set_xticks(range(len(numbers)), [f"{n}" for n in numbers])
        axes.set(xlabel="labels at the start", title=digits)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test accuracy, mean over the curve,\nless that of random labels")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right", fontsize=8, frameon=False)
    figure.suptitle("95 % intervals; filled where p < 0.05 after Holm", fontsize=8)
    return figure
