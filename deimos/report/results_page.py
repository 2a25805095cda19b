"""The results page and the README's table, written from the runs that the repository keeps.

`make figures SCALE=reference` puts figures beside the kept runs and tables between the marks of
`docs/results.md` and `README.md`: no number in them is typed in.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd

from deimos import stats, tracking
from deimos.report import (
    alternatives,
    explained,
    figures,
    lessons,
    overview,
    paper,
    side_by_side,
    starts,
    summaries,
    verdicts,
)
from deimos.report.findings import subject
from deimos.report.judging import ENOUGH, Verdict, judge
from deimos.report.paper import METHODS, Claim
from deimos.tracking import REFERENCES, ROOT, Evidence

README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
LESSONS = ROOT / "docs" / "what-we-learned.md"
SHOWN_FIGURES = (
    "figure-2-left", "figure-2-centre", "figure-2-right", "figure-3a", "figure-3b", "figure-3f",
    "figure-B1",
)  # fmt: skip
MARKS = "<!-- from mlruns/reference -->", "<!-- until here -->"
DIPS_MARKS = "<!-- dips, from mlruns/reference -->", "<!-- end of dips -->"
BATCHBALD_MARKS = "<!-- batchbald, from mlruns/reference -->", "<!-- end of batchbald -->"
TARGETS_MARKS = "<!-- targets, from mlruns/reference -->", "<!-- end of targets -->"
VARIANTS_MARKS = "<!-- variants, from mlruns/reference -->", "<!-- end of variants -->"
RIVALS_MARKS = "<!-- rivals, from mlruns/reference -->", "<!-- end of rivals -->"
STARTS_MARKS = "<!-- starts, from mlruns/reference -->", "<!-- end of starts -->"
# Runs are never pooled across machines, precisions or settings: each of these is apart.
KEPT = {
    "H100": (
        "mnist-7-vs-9.zip", "mnist-0-to-9.zip", "face-age.zip", "splicing.zip", "simulations.zip",
    ),
    "CPU": ("mnist-7-vs-9-on-cpus.zip", "mnist-0-to-9-on-cpus.zip"),
    "CPU, bfloat16": (
        "half-precision/mnist-7-vs-9.zip", "half-precision/mnist-7-vs-9-more.zip",
        "half-precision/mnist-7-vs-9-one-by-one.zip",
        "half-precision/mnist-7-vs-9-logits.zip", "half-precision/mnist-0-to-9.zip",
        "half-precision/mnist-0-to-9-logits.zip",
    ),
    "CPU (EPYC), bfloat16": (
        "half-precision/mnist-7-vs-9-one-by-one-epyc.zip",
        "half-precision/mnist-0-to-9-first-250.zip",
    ),
}  # fmt: skip
OTHER_SETTINGS = {"CPU, J = 250": ("250-masks/mnist-0-to-9.zip",)}


def kept(files: Mapping[str, tuple[str, ...]] = KEPT) -> dict[str, Evidence]:
    """The kept runs, read from their archives: each machine and precision apart."""
    return {
        name: tracking.of_archives([REFERENCES / file for file in archives])
        for name, archives in files.items()
    }


def decided(sets: Mapping[str, Evidence]) -> list[tuple[str, Verdict]]:
    """Each claim's verdict with the name of the runs that decide it.

    Of the sets that test it, those with most repeats decide; of equals the first. Seconds are
    compared among the runs of one commit alone: others ran at another time, beside other work.
    """
    by_set = {name: judge(paper.CLAIMS, evidence) for name, evidence in sets.items()}
    found = []
    for verdicts_of_claim in zip(*by_set.values(), strict=True):
        named = list(zip(by_set, verdicts_of_claim, strict=True))
        tested = [
            (name, verdict)
            for name, verdict in named
            if verdict.outcome != "not tested"
            and (verdict.claim.metric != "acquire_seconds" or len(verdict.origin.commits) == 1)
        ]
        known = [pair for pair in named if pair[1].origin is not None]
        found.append(max(tested or known or named, key=lambda pair: pair[1].repeats))
    return found


def experiments_table(found: list[tuple[str, Verdict]]) -> str:
    """The README's part: how the claims came out, and a row an experiment, linked to its page."""
    lines = [_counted(found), "", "| experiment | claims | DEIMOS less random |", "|---|---|---|"]
    for name, title in side_by_side.EXPERIMENTS.items():
        own = [verdict for _, verdict in found if verdict.claim.experiment == name]
        claims = verdicts.counted([verdict.outcome for verdict in own])
        (notebook,) = (ROOT / "notebooks").glob(f"*-{name}.ipynb")
        page = f"docs/executed/{notebook.stem}.md"
        lines.append(f"| [{title}]({page}) | {claims} | {_against_random(own)} |")
    return "\n".join(lines)


def _against_random(own: list[Verdict]) -> str:
    """Compare DEIMOS with random in words, as everybody asks, in the metric's units."""
    parts = []
    for verdict in own:
        claim = verdict.claim
        if (claim.kind, claim.methods) != ("outperforms", ("random",)) or verdict.origin is None:
            continue
        one = verdict.deciding
        data = "" if verdict.outcome != "not tested" else f" ({', '.join(verdict.reasons)})"
        parts.append(
            f"b {claim.batch_size}: {claim.metric} "
            f"{stats.with_interval(-one.effect, -one.high, -one.low)}, "
            f"{one.repeats} repeats, {verdict.outcome}{data}"
        )
    return "; ".join(parts) or "no such claim"


def results(
    found: list[tuple[str, Verdict]],
    sets: Mapping[str, Evidence],
    others: Mapping[str, Evidence],
) -> str:
    """The results page's part: every claim, the same comparisons elsewhere, the authors' curves."""
    letters = {name: chr(ord("a") + i) for i, name in enumerate(sets)}
    lines = [
        _counted(found), "",
        "| claim | the paper | outcome | ours | what is missing | the paper's own test | by |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, verdict in found:
        row = verdicts.row(verdict)
        cells = row["paper"], f"**{row['outcome']}**", row["ours"], row["needs"]
        cells = verdict.claim.title, *cells, row["paper's own test"]
        by = letters[name] if verdict.origin else ""
        lines.append(f"| {' | '.join(map(_cell, cells))} | {by} |")
    lines += ["", verdicts.ON_THE_PAPERS_TEST, "", "What the verdicts rest on:", ""]
    for name, evidence in sets.items():
        lines += [f"- {letters[name]}: {name}"]
        lines += [f"    - {_origin(e, evidence)}" for e in evidence.origins]
    both = {**sets, **others}
    lines += ["", "## The same comparisons on other runs, and on the authors' curves", ""]
    lines += _elsewhere(both, sets["H100"].published)
    lines += ["", "## Our curves less the authors'", "", *_gaps(sets)]
    lines += ["", "## What another machine, precision or J changes", "", *_pairs(both)]
    return "\n".join(lines)


def _counted(found: list[tuple[str, Verdict]]) -> str:
    outcomes = [verdict.outcome for _, verdict in found]
    return f"**Of {len(outcomes)} claims: {verdicts.counted(outcomes)}.**"


def _origin(experiment: str, evidence: Evidence) -> str:
    origin = evidence.origins[experiment]
    came = f"{experiment}: {origin.source}; {origin.machine}"
    return f"{came}; {origin.minutes:.1f} minutes" if origin.minutes else came


def _elsewhere(sets: Mapping[str, Evidence], published: pd.DataFrame) -> list[str]:
    """Compare DEIMOS with each method that it is to outperform, once in every set of runs.

    0-9 at batch size 100, too: the authors' code has it where the paper has 25. All are cut where
    the shortest of them ends, so that a row compares the same iterations.
    """
    claims = [c for c in paper.CLAIMS if c.kind == "outperforms" and len(c.methods) == 1]
    claims = [c for c in claims if c.experiment != "splicing" and "logits" not in c.methods[0]]
    claims += [replace(c, batch_size=100) for c in claims if c in paper.MNIST_0_TO_9]
    tables = {name: evidence.table for name, evidence in sets.items()} | {"authors": published}
    head = f"| another method less DEIMOS | to | {' | '.join(tables)} |"
    lines = [head, "|---" * (2 + len(tables)) + "|"]
    for claim in claims:
        rows = {name: _paired(claim, table) for name, table in tables.items()}
        ends = [one.n_acquired.max() for one in rows.values() if len(one)]
        if len(ends) > 1:
            end = min([claim.horizon, *ends])
            cells = [_difference(claim, one[one.n_acquired <= end]) for one in rows.values()]
            what = f"{claim.experiment}, b {claim.batch_size}: {METHODS[claim.methods[0]]}"
            lines.append(f"| {what} | {end} | {' | '.join(cells)} |")
    return lines


def _paired(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of DEIMOS and the other method, of the repeats that both have.

    None of runs that stop too early to be judged.
    """
    rows = subject(claim, table)
    rows = rows[rows.method.isin(["deimos", *claim.methods])]
    rows = rows[rows.groupby("repeat").method.transform("nunique") == 2]
    return rows if rows.n_acquired.max() >= ENOUGH * claim.horizon else rows[:0]


def _difference(claim: Claim, rows: pd.DataFrame) -> str:
    """A difference with its interval and the number of repeats; empty without any."""
    if rows.empty:
        return ""
    test = stats.run_level_test(rows, *claim.methods)
    effect = stats.with_interval(test.effect, *test.interval)
    return f"{effect}, {len(test.differences)} repeats"


def _gaps(sets: Mapping[str, Evidence]) -> list[str]:
    """Each curve that the authors have too: a difference of run means, by Welch's interval."""
    lines = [
        "| curve | by | iterations | runs, ours and theirs | ours less theirs |",
        "|---|---|---|---|---|",
    ]
    for name, evidence in sets.items():
        for gap in summaries.gaps(evidence.table, evidence.published).itertuples():
            what = f"{gap.experiment}, b {gap.batch_size}: {METHODS[gap.method]}"
            less = stats.with_interval(gap.difference, gap.low, gap.high)
            runs = f"{gap.ours}, {gap.theirs}"
            lines.append(f"| {what} | {name} | {gap.points} | {runs} | {less} |")
    return lines


def _pairs(sets: Mapping[str, Evidence]) -> list[str]:
    """Compare the accuracy of the same members under other rounding, random numbers or settings."""
    lines = []
    keys = ["experiment", "batch_size", "metric", "method", "repeat", "n_acquired"]
    for one, other in combinations(sets, 2):
        both = sets[one].table.merge(sets[other].table, on=keys, suffixes=("", "_other"))
        both = both[both.metric == "accuracy"]
        for (name, b), rows in both.groupby(["experiment", "batch_size"]):
            rows = rows.assign(repeat=rows.groupby(["method", "repeat"]).ngroup())
            pair = [rows.assign(method=one), rows.assign(method=other, value=rows.value_other)]
            found = stats.run_level_test(pd.concat(pair), one, other)
            less = stats.with_interval(found.effect, *found.interval, "+.4f")
            lines.append(
                f"- {name}, b {b}, to {rows.n_acquired.max()}: a run's mean accuracy on {one} less "
                f"that on {other} is {less}, over {len(found.differences)} pairs."
            )
    return lines


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|")


def between_marks(page: str, text: str, marks: tuple[str, str] = MARKS) -> str:
    """The page with this text between its marks; `ValueError` unless it has them once."""
    begin, end = map(re.escape, marks)
    between = f"{marks[0]}\n\n{text}\n\n{marks[1]}"
    written, n = re.subn(f"{begin}.*{end}", lambda _: between, page, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"the page needs the marks {' and '.join(marks)}, once")
    return written


def pages(sets: Mapping[str, Evidence], found: list[tuple[str, Verdict]]) -> dict[Path, str]:
    """The pages as they should be, and the table of verdicts beside the kept runs."""
    texts = {README: experiments_table(found), RESULTS: results(found, sets, kept(OTHER_SETTINGS))}
    written = {
        page: between_marks(page.read_text(encoding="utf-8"), text) for page, text in texts.items()
    }
    for table, marks in (
        (explained.dips_table, DIPS_MARKS),
        (explained.batchbald_table, BATCHBALD_MARKS),
        (explained.targets_table, TARGETS_MARKS),
        (alternatives.variants_table, VARIANTS_MARKS),
        (alternatives.rivals_table, RIVALS_MARKS),
        (starts.table, STARTS_MARKS),
    ):
        written[RESULTS] = between_marks(written[RESULTS], table(), marks)
    known = lessons.of_claims([verdict for _, verdict in found])
    known |= explained.outcomes() | alternatives.outcomes()
    written[RESULTS] = lessons.with_numbers(written[RESULTS], known)
    written[LESSONS] = lessons.with_numbers(LESSONS.read_text(encoding="utf-8"), known)
    written[side_by_side.KEPT_VERDICTS] = side_by_side.kept_verdicts(found)
    return written


def write_pages() -> None:
    """Write the pages, and the figures beside the kept runs."""
    sets = kept()
    evidence = sets["H100"]
    evidence = Evidence(
        evidence.table,
        {e: replace(o, scale=tracking.REFERENCE) for e, o in evidence.origins.items()},
    )
    overview.overview(evidence).savefig(REFERENCES / "overview.png", dpi=110)
    for name in SHOWN_FIGURES:
        if figure := figures.draw(name, evidence):
            figure.savefig(REFERENCES / f"{name}.png", dpi=120)
    for name, figure in {**alternatives.drawn(), "rivals-by-start": starts.drawn()}.items():
        figure.savefig(REFERENCES / f"{name}.png", dpi=120)
    for page, text in pages(sets, decided(sets)).items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages()
