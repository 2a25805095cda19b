"""The README's results, written from the runs that the repository keeps: no number is typed in.

`make figures SCALE=reference` puts figures beside the kept runs, the tables between their marks.
"""

import re
from dataclasses import replace
from itertools import combinations

from deimos import figures, paper, stats, tracking, verdicts
from deimos.data import ROOT
from deimos.extras import extra
from deimos.record import archive
from deimos.record.reading import REFERENCE
from deimos.record.results import COLUMNS, OTHER_DATA, short

with extra("reproduce"):
    import pandas as pd

README = ROOT / "README.md"
SHOWN = (
    "figure-2-left", "figure-2-centre", "figure-2-right", "figure-3a", "figure-3b", "figure-3f",
    "figure-B1",
)  # fmt: skip
ON_CPUS = "CPU (x86_64)"
MORE_MASKS = "on CPUs with J = 250"
MARKS = "<!-- from mlruns/reference -->", "<!-- until here -->"
COST_MARKS = "<!-- costs from mlruns/reference -->", "<!-- until here, too -->"
REPEATS, WORKERS = (3, 10, 30), (1, 8, 64)  # that the table of costs is for


def kept(**settings: str) -> pd.DataFrame:
    """The kept runs as a tidy table, all or those with these parameters or tags."""
    return tracking.table(scale=REFERENCE, **settings)


def beside(folder: str) -> pd.DataFrame:
    """The scores of runs kept beside the others, with other settings, as the same kind of table.

    They are not read into the record, where they would take the place of those at the paper's.
    """
    rows = []
    for file in sorted((archive.REFERENCES / folder).glob("*.zip")):
        values, runs = archive.contents(file)
        for row in values[values.metric.str.startswith("test/")].itertuples():
            run, n = runs[row.run]["params"], row.step
            member = file.stem, int(run["batch_size"]), run["method"], int(run["repeat"])
            rows.append((*member, n, int(run["n_initial"]) + n, short(row.metric), row.value))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def results(table: pd.DataFrame, on_cpus: pd.DataFrame) -> str:
    """The verdict on every claim that the kept runs bear on, and where the runs come from."""
    known = tracking.doubts(REFERENCE)
    # To reach a score of the paper's means something on the paper's data alone.
    claims = [
        claim
        for claim in paper.CLAIMS
        if claim.experiment in known
        and not (claim.threshold is not None and OTHER_DATA in known[claim.experiment])
    ]
    found = verdicts.verdicts(claims, table, known)
    found = _panels_together(found[~found.verdict.str.contains("no runs")])
    rows = [
        f"| {row.where}: {_cell(row.claim)} | {_cell(row.paper)} "
        f"| {_cell(f'{row.ours} {row.interval}')} | {_verdict(row.verdict)} |"
        for row in found.itertuples()
    ]
    head = ["| claim | paper | ours | holds? |", "|---|---|---|---|"]
    ours = {
        "these runs": table,
        "on CPUs": on_cpus,
        "on CPUs in half precision": beside("half-precision"),
        MORE_MASKS: beside("250-masks"),
    }
    rivals = on_cpus[on_cpus.method != "deimos"]  # to whom J does not matter
    against = ours | {MORE_MASKS: pd.concat([ours[MORE_MASKS], rivals])}
    tests = _tests(against | {"the authors' own": tracking.published(REFERENCE)})
    parts = [
        *(_counted(found), "", *head, *rows, ""),
        *_folded("The same tests on other runs, the authors' own among them", tests),
        *_folded("How far our mean curves lie from the authors'", _gaps(table)),
        *_folded("What another kind of machine, or more masks, change", _pairs(ours)),
        *_origins(table),
    ]
    return "\n".join(parts)


def costs(on_cpus: pd.DataFrame) -> str:
    """For each experiment kept, how long its runs would take by repeats and workers (`hours`)."""
    seconds = on_cpus[on_cpus.metric.str.endswith("_seconds")]
    head = "| kept runs, hours a run | repeats | " + " | ".join(f"{w} workers" for w in WORKERS)
    lines = [f"{head} |".replace(" 1 workers", " 1 worker"), "|---" * (2 + len(WORKERS)) + "|"]
    for (name, b), rows in seconds.groupby(["experiment", "batch_size"]):
        runs = rows.groupby(["method", "repeat"]).value.sum() / 3600
        methods = runs.index.get_level_values("method").nunique()
        what = f"{name}, b {b}, {methods} methods: {runs.mean():.2f}, at most {runs.max():.2f}"
        for repeats in REPEATS:
            took = [hours(runs, methods * repeats, workers) for workers in WORKERS]
            lines.append(f"| {what} | {repeats} | " + " | ".join(f"{h:.1f} h" for h in took) + " |")
            what = ""
    return "\n".join(lines)


def hours(runs: pd.Series, n: int, workers: int) -> float:
    """Hours for `n` runs such as these, each on one worker: shared, but never below the longest."""
    return max(n * runs.mean() / workers, runs.max())


def written(readme: str, results: str, marks: tuple[str, str] = MARKS) -> str:
    """The README with these results between its marks."""
    begin, end = map(re.escape, marks)
    between = f"{marks[0]}\n\n{results}\n\n{marks[1]}"
    text, n = re.subn(f"{begin}.*{end}", lambda _: between, readme, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"the README needs the marks {' and '.join(marks)}, once")
    return text


def _counted(found: pd.DataFrame) -> str:
    """How the claims came out, as one sentence."""
    kinds = (
        ("holds", "hold"),
        ("does not hold", "do not"),
        ("cannot tell", "are not tested or open"),
    )
    counts = [(int(found.verdict.str.startswith(kind).sum()), said) for kind, said in kinds]
    told = ", ".join(f"{n} {said}" for n, said in counts if n)
    return f"**Of {len(found)} claims {told}.**"


def _folded(summary: str, lines: list[str]) -> list[str]:
    """What few readers want at once, a click away on GitHub."""
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>", ""]


def _panels_together(found: pd.DataFrame) -> pd.DataFrame:
    """Panels that are claimed alike and come out alike as one row: the lowest of them."""
    stem = found.claim.str.partition(": batch size")[0]
    lowest = pd.to_numeric(found.interval.str.strip("[]").str.split(",").str[0], errors="coerce")
    panels = found.assign(stem=stem, lowest=lowest).groupby(["where", "stem", "verdict"])
    several = found[(panels.transform("size") > 1) & (panels.lowest.transform("min") == lowest)]
    counts = panels.transform("size")[several.index].astype(str)
    told = several.assign(claim=stem[several.index] + " (the lowest of " + counts + " panels)")
    return pd.concat([found[panels.transform("size") == 1], told]).sort_index()


def _gaps(table: pd.DataFrame) -> list[str]:
    """Each curve that the authors have too: where it lies furthest from theirs."""
    rows = [
        f"| {gap.experiment}, batch size {gap.batch_size}: {paper.METHODS[gap.method]} "
        f"| {gap.points} | {gap.gap:+.4f} at {gap.at} | {gap.gap / gap.spread:+.1f} |"
        for gap in stats.gaps(table, tracking.published(REFERENCE)).itertuples()
    ]
    head = "| mean curve | points compared | largest gap to the authors' | in units of their sd |"
    return [head, "|---|---|---|---|", *rows] if rows else []


def _tests(tables: dict[str, pd.DataFrame]) -> list[str]:
    """How each of these tables decides where DEIMOS is to outperform one other method.

    0-9 at batch size 100, too: the authors' code has it where the paper has 25.
    """
    claims = [one for one in paper.CLAIMS if one.kind == "outperforms" and len(one.methods) == 1]
    claims += [replace(one, batch_size=100) for one in claims if one in paper.MNIST_0_TO_9]
    lines = [
        f"| another method less DEIMOS | {' | '.join(tables)} |",
        "|---" * (1 + len(tables)) + "|",
    ]
    for claim in claims:
        cells = [_test(claim, table) for table in tables.values()]
        if sum(map(bool, cells)) > 1:
            (method,) = claim.methods
            what = f"{claim.experiment}, batch size {claim.batch_size}: {paper.METHODS[method]}"
            lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def _test(claim: paper.Claim, table: pd.DataFrame) -> str:
    """A test in words, over the repeats that both have, and where it ends if early; "" if none."""
    (method,) = claim.methods
    rows = verdicts.subject(claim, table)
    rows = rows[rows.method.isin(["deimos", method])]
    rows = rows[rows.groupby("repeat").method.transform("nunique") == 2]
    if rows.empty:
        return ""
    ours = verdicts.verdicts([claim], rows, {}).ours[0].removeprefix(paper.METHODS[method])
    end = rows.groupby("method").n_acquired.max().min()
    early = f" to {end}" if end < claim.horizon else ""
    return f"{ours.strip()}, {rows.repeat.nunique()} repeats{early}"


def _pairs(tables: dict[str, pd.DataFrame]) -> list[str]:
    """What other rounding, random numbers or settings do to the scores of the same members."""
    what = "a run's mean accuracy on the one less that on the other"
    lines = [f"| runs kept from both | pairs of runs | {what} |", "|---|---|---|"]
    keys = ["experiment", "batch_size", "metric", "method", "repeat", "n_acquired"]
    for one, other in combinations(tables, 2):
        both = tables[one].merge(tables[other], on=keys, suffixes=("", "_other"))
        both = both[both.metric == "accuracy"]
        for (name, b), rows in both.groupby(["experiment", "batch_size"]):
            rows = rows.assign(repeat=rows.groupby(["method", "repeat"]).ngroup())
            pair = [rows.assign(method=one), rows.assign(method=other, value=rows.value_other)]
            found = stats.paired_differences(pd.concat(pair)[list(COLUMNS)], other).iloc[0]
            end = rows.n_acquired.max()
            what = f"{one}, less {other}: {name}, batch size {b}, to {end} acquired"
            effect = f"{found.effect:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            lines.append(f"| {what} | {found.repeats} | {effect} |")
    return lines


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|")


def _verdict(verdict: str) -> str:
    short = {"holds": "yes", "does not hold": "**no**"}
    unsure = "not tested (" if OTHER_DATA in verdict else "open ("
    return short.get(verdict, verdict.replace("cannot tell (", unsure).replace("points ", ""))


def _origins(table: pd.DataFrame) -> list[str]:
    """For each experiment its repeats, data, machines, commits; how long it took, and all of it."""
    said, machines = [], set()
    for name in table.experiment.unique():
        came, rows = tracking.provenance(name, REFERENCE), table[table.experiment == name]
        is_fleet = rows.metric.eq("fit_seconds").any()
        repeats = f"{came['repeats']} repeats, " if is_fleet else ""
        took = f", {came['minutes']:.1f} minutes" if is_fleet else ""
        commits = ", ".join(commit[:7] for commit in came["commits"])
        where = " and ".join(came["devices"])
        said.append(f"- {name}: {repeats}{came['source']}, {where}, commit {commits}{took}.")
        machines |= {*came["devices"]} - {ON_CPUS}
    for machine in sorted(machines):
        took = tracking.minutes(REFERENCE, device=machine)
        said.append(
            f"- **All that ran on the {machine}: {took:.0f} minutes**, partly side by side."
        )
    return said


def main() -> None:
    """Into the README, and its figures beside the kept runs."""
    archive.read_references()
    table, on_cpus = kept(), kept(device=ON_CPUS)
    notes, published = tracking.notes(REFERENCE), tracking.published(REFERENCE)
    for name in SHOWN:
        if figure := figures.draw(name, table, notes, published):
            figure.savefig(archive.REFERENCES / f"{name}.png", dpi=120)
    text = written(README.read_text(encoding="utf-8"), results(table, on_cpus))
    README.write_text(written(text, costs(on_cpus), COST_MARKS), encoding="utf-8")


if __name__ == "__main__":
    main()
