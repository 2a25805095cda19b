"""One page on a round: what was picked and why, how much each pick adds, how diverse they are.

The page stands alone: pictures and style are in it, and it asks nothing of the network.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

import pandas as pd
from jaxtyping import Num
from matplotlib.figure import Figure
from torch import Tensor

from deimos.label_next import figures
from deimos.label_next.points import Points
from deimos.label_next.rounds import Round
from deimos.label_next.tables import MADE
from deimos.report.figures import improvement, thumbnails

SHOWN_ROWS, IMAGES = 30, 96  # of the picks that are shown
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1020px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.5em; margin: 0 0 .2em } h2 { font-size: 1.1em; margin: 1.6em 0 .4em }
.said { color: #555; margin: 0 } .warn { background: #fff3d6; padding: .5em .8em; margin: 1em 0 }
.numbers { display: flex; gap: 2.2em; margin: 1.2em 0; flex-wrap: wrap }
.numbers div { max-width: 220px } .numbers b { display: block; font-size: 1.5em }
.numbers span { color: #555; font-size: .87em }
.two { display: flex; gap: 1em; flex-wrap: wrap; align-items: flex-start } .two img { width: 485px }
img { max-width: 100% } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .87em }
th, td { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid #e5e5e5;
  white-space: nowrap } td.n, th.n { text-align: right }
.wrap { white-space: normal } code { font-size: .82em; letter-spacing: -.03em }
.A { color: #029e73 }
.C { color: #0173b2 } .G { color: #de8f05 }
.T { color: #cc3333 } footer { color: #777; font-size: .8em; margin-top: 2em }
"""


def report_page(
    found: Round,
    picks: pd.DataFrame,
    pool: Points,
    x: Num[Tensor, "b *input"],
    about: Mapping[str, str],
    understood: Sequence[tuple[str, str]] = (),
) -> str:
    """The report as HTML. `x` are the picked points, `about` what was set, `understood` what was
    read as what."""
    b = len(picks)
    half = next(i for i in range(1, b + 1) if sum(found.gains[:i]) >= sum(found.gains) / 2)
    rows = [(c.name, f"{c.picked:.3g}", f"{c.random:.3g}") for c in found.comparisons]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{b} to label next</title><style>{STYLE}</style>",
            f"<h1>{b} of {found.n_open:,} to label next</h1>",
            '<p class="said">Picked by expected improvement: each is the point whose label would '
            "most lower the model's variance, summed over all the points that matter, given the "
            "labels of the picks before it.</p>",
            *["<h2>What was read as what</h2>", html_table([("", ""), *escaped(understood)])],
            f'<div class="numbers">{numbers_in_boxes(found, b)}</div>{warning(found)}',
            "<h2>How much each pick adds, and where the picks lie</h2><p>Half of the batch's "
            f"expected improvement is that of its first {half}. Stop where a pick adds too little "
            "for the price of its label.</p>",
            f'<div class="two">{image(improvement(found.gains))}'
            f"{image(figures.draw_plane(found.picture))}</div>",
            "<h2>The batch against random ones of its size</h2>",
            html_table([("", "this batch", "random"), *rows]),
            '<p class="said">Points that a model is unsure of look alike to it: a batch that tells '
            "more than a random one may be less diverse.</p>",
            *gallery(found, picks, pool, x),
            f"<h2>The first {min(b, SHOWN_ROWS)} picks</h2>" if b > 1 else "<h2>The pick</h2>",
            f'<div class="wide">{html_table(picks_table(picks.head(SHOWN_ROWS), pool))}</div>',
            "<h2>What was read and set</h2>",
            html_table([("", ""), *escaped(about.items())]),
            "<footer>Made by deimos. All picks are in the table beside this page and in the record."
            "</footer></html>",
        ]
    )


def always_saying(found: Round) -> str:
    """Answer of a model that has learnt nothing."""
    return "the commonest class" if found.metric == "accuracy" else "the mean"


def warning(found: Round) -> str:
    """A paragraph if the model is no better than one that has learnt nothing."""
    worse = found.score <= found.naive if found.metric == "accuracy" else found.score >= found.naive
    if not worse:
        return ""
    return (
        f'<p class="warn">On the held-out points the model is no better than always saying '
        f"{always_saying(found)}. What it is unsure of then says little: label a random batch "
        f"first, or look at the labels.</p>"
    )


def numbers_in_boxes(found: Round, b: int) -> str:
    """The round in four numbers."""
    removes = found.comparisons[0]
    numbers = [
        (f"{found.score:.3g}", f"validation {found.metric} on {found.n_validation} held out"),
        (f"{found.naive:.3g}", f"always saying {always_saying(found)}"),
        (f"{removes.picked:.0%}", f"of the variance goes, expects the model ({removes.random:.0%} "
         "with a random batch)"),
        (f"{found.share()[-1]:.1%}", f"of the first pick's improvement is what pick {b} adds"),
    ]  # fmt: skip
    return "".join(f"<div><b>{value}</b><span>{text}</span></div>" for value, text in numbers)


def gallery(found: Round, picks: pd.DataFrame, pool: Points, x: Tensor) -> list[str]:
    """Images by rank; for sequences, what they are made of."""
    if pool.kind == "images":
        captions = [f"{i}: {gain:.2g}" for i, gain in enumerate(found.gains, 1)]
        return [
            f"<h2>The picks by rank, with their expected improvement</h2>"
            f"{image(thumbnails(x[:IMAGES], captions))}"
        ]
    if pool.kind == "sequences":
        return [f"<h2>What the picks are made of</h2>{image(figures.composition(x, pool.x))}"]
    return []


def picks_table(picks: pd.DataFrame, pool: Points) -> list[tuple[str, ...]]:
    """The picks as rows of text; of a wide table the first columns alone."""
    sequence = pool.features[0] if pool.kind == "sequences" else None
    own = [name for name in pool.table if name != sequence][:5]
    own = [*own, *MADE[1:], *([sequence] if sequence else [])]
    rows = [tuple(html.escape(name.replace("_", " ")) for name in (MADE[0], *own))]
    for row in picks[[MADE[0], *own]].itertuples(index=False):
        cells = [html.escape(short_text(value)) for value in row]
        rows.append((*cells[:-1], letters(str(row[-1])) if sequence else cells[-1]))
    return rows


def letters(sequence: str) -> str:
    """A sequence in colours."""
    spans = "".join(
        f'<span class="{base}">{base}</span>' if base in "ACGT" else html.escape(base)
        for base in sequence.upper()
    )
    return f"<code>{spans}</code>"


def escaped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Rows of text as HTML, which breaks their lines."""
    return [tuple(f'<span class="wrap">{html.escape(t)}</span>' for t in pair) for pair in pairs]


def short_text(value: object) -> str:
    """A cell's text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:60]


def html_table(rows: list[tuple[str, ...]]) -> str:
    """Rows of HTML, the first of them the heading."""
    head, *body = [
        "".join(f"<{tag}>{cell}</{tag}>" for cell in row)
        for tag, row in zip(["th"] + ["td"] * (len(rows) - 1), rows, strict=True)
    ]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


def image(figure: Figure) -> str:
    """A figure as part of the page."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=160)
    return (
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'
    )
