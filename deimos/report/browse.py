"""The record in a browser: a page of our own before MLflow's UI, served by one process.

    python -m deimos.report.browse 5000

The page comes in two parts: its head at once, since it sends addresses of MLflow's on to MLflow,
and the rest when the record has been read. What was read and drawn is kept until a run changes.
"""

import argparse
import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import Any

import pandas as pd
import seaborn as sns

from deimos import tracking
from deimos.report import figures, front_page, paper, side_by_side
from deimos.report.front_page import Card, Section
from deimos.tracking import queries, saved_views, ui

NOTEBOOK_FOLDER = tracking.ROOT / "notebooks"
CHARTS = {"figure-1": "improvement", "figure-A1": "ratio_3"}  # metrics of figures that have several
KEPT_HEADING = "The runs that this repository keeps"
SUBJECT = ("experiment", "batch_size", "metric")  # in which a claim and its figure agree
MAIN = "<main>"  # where the page's second part begins
BUSY = RLock()  # one request at a time reads the record and draws
PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
NO_SCRIPTS = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; sandbox"


@dataclass(frozen=True, eq=False)
class Shown:
    """The record at one scale: the runs that count, their evidence, the verdicts on it."""

    scale: str
    runs: Sequence[Any]
    evidence: tracking.Evidence
    claims: pd.DataFrame  # a row for each of `paper.CLAIMS`


def state() -> str:
    """A short text that changes whenever a run of the record is new or has gone on."""
    facts = [
        (run.info.run_id, run.info.status, run.data.metrics.get(queries.LABELLED))
        for run in queries.search(kind="run")
    ]
    return hashlib.sha256(repr(sorted(facts, key=str)).encode()).hexdigest()[:12]


def scales() -> list[str]:
    """The scales that the record has runs at: the user's own, the latest first, then the kept."""
    kept = queries.search(kind="run", scale=queries.REFERENCE)
    return [*queries.own_scales(), *([queries.REFERENCE] if kept else [])]


@lru_cache(8)
def read_page(scale: str, state: str) -> Shown:
    """Read everything that the page shows of one scale, once for each state of the record."""
    evidence = tracking.evidence(scale)
    claims = side_by_side.verdicts_at(scale, evidence)
    return Shown(scale, queries.chosen(None, scale, None, {}), evidence, claims)


@lru_cache(128)
def picture(scale: str, name: str, state: str) -> bytes | None:
    """A figure as PNG, or None if the runs have too little of it."""
    figure = figures.draw(name, read_page(scale, state).evidence)
    if figure is None:
        return None
    content = BytesIO()
    figure.savefig(content, dpi=120)
    return content.getvalue()


@lru_cache(8)
def section(scale: str, state: str) -> Section:
    """The figures that these runs have something of; each gets its saved view in MLflow."""
    part = read_page(scale, state)
    title = KEPT_HEADING if scale == queries.REFERENCE else f"Your runs at {scale} scale"
    cards = [_card(name, part, state) for name in figures.FIGURES]
    return Section(
        scale, title, front_page.front_summary(part.claims), [card for card in cards if card]
    )


def _card(name: str, part: Shown, state: str) -> Card | None:
    title, _, subject = figures.FIGURES[name]
    runs = [run for run in part.runs if _is_of(run, subject)]
    if not runs or figures.draw(name, part.evidence) is None:
        return None
    label = label_of(name)
    notebook = tracking.client().get_experiment(runs[0].info.experiment_id).name
    is_executed = executed_page(notebook, part.scale) is not None
    return Card(
        name,
        label,
        title,
        picture=f"/figures/{part.scale}/{name}.png?state={state}",
        view=_view(name, f"{label} ({part.scale})", runs, part.evidence.table),
        notebook_page=f"/notebooks/{notebook}.html?scale={part.scale}",
        notebook=notebook if is_executed else f"{notebook}, not executed here",
        claims=part.claims[[figure_of(claim) == name for claim in paper.CLAIMS]],
        runs=_addresses(runs),
    )


def label_of(name: str) -> str:
    """A figure's name in words, as the saved views have it: "Figure 2 left"."""
    return name[0].upper() + name[1:].replace("-", " ")


def _is_of(run: Any, subject: dict[str, Any]) -> bool:
    """True if a figure shows a run, as far as its experiment, batch size and method tell."""
    experiment, batch_size, method, _ = queries.member(run)
    return (
        experiment == subject["experiment"]
        and batch_size == subject.get("batch_size", batch_size)
        and method in subject.get("method", (method,))
    )


def _view(name: str, title: str, runs: list, table: pd.DataFrame) -> str:
    """Save the figure's chart in MLflow; its address."""
    wanted = CHARTS.get(name) or figures.FIGURES[name][2]["metric"]
    metric = next(key for key in runs[0].data.metrics if tracking.metric_name(key) == wanted)
    members = pd.DataFrame([queries.member(run)[:3] for run in runs], columns=queries.MEMBER[:3])
    rows = table[table.metric == wanted].merge(members.drop_duplicates())
    steps = rows["repeat" if metric.startswith(saved_views.SIMULATION) else "n_acquired"]
    points = list(zip(steps, rows.value, strict=True))
    place = runs[0].info.experiment_id
    key = saved_views.write(place, title, metric, runs, points)
    return ui.inside(ui.RUNS.format(id=place) + ui.SHARED.format(key=key))


@cache
def figure_of(claim: paper.Claim) -> str | None:
    """The figure that a claim stands with: the first that shows what it measures, of its methods.

    If none does, as with times, the first of the same experiment and batch size.
    """
    for agree, methods in ((SUBJECT, claim.methods), (SUBJECT[:2], ())):
        for name, (_, _, subject) in figures.FIGURES.items():
            same = all(subject.get(key, vars(claim)[key]) == vars(claim)[key] for key in agree)
            if same and {*methods} <= {*subject.get("method", methods)}:
                return name
    return None


def _addresses(runs: list) -> dict[str, dict[str, str]]:
    """The run pages by method, in the order of the paper's legends, and by repeat."""
    order, rows = [*paper.NAMES], []
    for run in runs:
        _, batch_size, method, repeat = queries.member(run)
        name = paper.NAMES.get(method, method)
        name = f"batch size {batch_size}" if _is_simulation(run) else name
        place = order.index(method) if method in order else len(order)
        address = ui.RUN.format(experiment=run.info.experiment_id, run=run.info.run_id)
        rows.append(((place, method, batch_size, repeat), name, ui.inside(address)))
    by_method: dict[str, dict[str, str]] = {}
    for (*_, repeat), name, address in sorted(rows):
        by_method.setdefault(name, {})[f"repeat {repeat}"] = address
    return by_method


def colours(runs: Sequence[Any]) -> dict[str, str]:
    """The colours of our figures, for MLflow: of each method's group and of each run.

    Simulations, which differ in their batch size alone, have a colour of these each; variants, of
    which there are more, hues of their own.
    """
    palette = sns.color_palette([*figures.COLOURS.values()]).as_hex()
    methods = dict(zip(figures.COLOURS, palette, strict=True))
    variants = sorted({run.data.tags["variant"] for run in runs if "variant" in run.data.tags})
    hues = dict(zip(variants, sns.husl_palette(len(variants)).as_hex(), strict=True))
    simulations = [run for run in runs if _is_simulation(run)]
    sizes = sorted({run.data.tags["batch_size"] for run in simulations}, key=int)
    by_size = {size: palette[at % len(palette)] for at, size in enumerate(sizes)}
    groups = (("method", methods), ("variant", hues), ("batch_size", by_size))
    shades = {
        saved_views.group(tag, value): shade
        for tag, by_value in groups
        for value, shade in by_value.items()
    }
    for run in runs:
        _, batch_size, name, _ = queries.member(run)
        of_run = by_size.get(str(batch_size)) if _is_simulation(run) else (hues | methods).get(name)
        shades[run.info.run_id] = of_run or "#808080"
    return shades


def _is_simulation(run: Any) -> bool:
    """True if a run has an instance a step (`fleets.log_instances`)."""
    return run.data.tags.get("step") == "repeat"


def parts() -> Iterator[str]:
    """The page of the record as it is now: its head at once, the rest when the record is read."""
    with BUSY:
        now, runs = state(), queries.search(kind="run")
        shades = colours(runs)
    yield front_page.page([], {}, shades).partition(MAIN)[0]
    try:
        yield _rest(now, runs, shades)
    except Exception as problem:  # the head is out: say it where it is looked for, and in the log
        yield f"{MAIN}<p>The record cannot be read: {html.escape(tracking.why(problem))}</p>"
        raise


def _rest(now: str, runs: list, shades: dict[str, str]) -> str:
    with BUSY:
        sections = [section(scale, now) for scale in scales()]
    used = {run.info.experiment_id for run in runs}
    experiments = {
        place.name: ui.inside(ui.RUNS.format(id=place.experiment_id))
        for place in sorted(tracking.client().search_experiments(), key=lambda place: place.name)
        if place.experiment_id in used
    }
    page = front_page.page([part for part in sections if part.cards], experiments, shades)
    return "".join(page.partition(MAIN)[1:])


def executed_page(notebook: str, scale: str) -> Path | None:
    """The page of a notebook's last execution, if that was at this scale."""
    page = tracking.executed_folder(NOTEBOOK_FOLDER, scale) / f"{notebook}.html"
    status = page.with_suffix(".json")
    if not (page.exists() and status.exists()):
        return None
    return page if json.loads(status.read_text(encoding="utf-8"))["scale"] == scale else None


def notebook_page(notebook: str, scale: str) -> str | None:
    """A notebook as HTML, executed at `scale` if it was; None if there is no such notebook."""
    if notebook not in {path.stem for path in NOTEBOOK_FOLDER.glob("*.ipynb")}:
        return None
    if page := executed_page(notebook, scale):
        return page.read_text(encoding="utf-8")
    import nbconvert  # here, since few ask for it and it takes a second

    return nbconvert.HTMLExporter().from_filename(str(NOTEBOOK_FOLDER / f"{notebook}.ipynb"))[0]


def routes() -> list:
    """Routes before MLflow's own: the page, its pictures and the notebooks."""
    from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
    from starlette.routing import Route

    missing = Response("There is no such page.", 404, media_type="text/plain")

    def front(request: Any) -> Response:
        if ui.INSIDE in request.query_params:
            return FileResponse(ui.index(), headers={"Cache-Control": "no-cache"})
        headers = PRIVATE | {"Content-Security-Policy": policy()}
        return StreamingResponse(parts(), headers=headers, media_type="text/html")

    def one_picture(request: Any) -> Response:
        scale, name = request.path_params["scale"], request.path_params["name"]
        if scale not in (*tracking.SCALES, queries.REFERENCE) or name not in figures.FIGURES:
            return missing
        with BUSY:
            content = picture(scale, name, request.query_params.get("state") or state())
        return missing if content is None else Response(content, media_type="image/png")

    def one_notebook(request: Any) -> Response:
        scale = request.query_params.get("scale", queries.REFERENCE)
        content = notebook_page(request.path_params["name"], scale)
        headers = PRIVATE | {"Content-Security-Policy": NO_SCRIPTS}
        return missing if content is None else HTMLResponse(content, headers=headers)

    return [
        Route("/", front),
        Route("/figures/{scale}/{name}.png", one_picture),
        Route("/notebooks/{name}.html", one_notebook),
    ]


def policy() -> str:
    """The page's security policy: its own one script, its style and its pictures, nothing else."""
    script = re.search("<script>(.*?)</script>", front_page.page([], {}, {}), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline';"
        " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def browse_program(arguments: list[str] | None = None) -> None:
    """Read in the kept runs if the record is the repository's own, and serve it until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Browse the record on this machine.")
    parser.add_argument("port", type=int, nargs="?", default=5000)
    port = parser.parse_args(arguments).port
    tracking.end_the_dead({})
    uri = tracking.store_uri()
    if tracking.sqlite_file(uri) == tracking.own_file():  # no record elsewhere is added to
        tracking.read_references()
    if uri.startswith("http"):  # that server shows its own
        print(*ui.links(port), sep="\n", flush=True)
    else:
        saved_views.prune()
        ui.serve(uri, tracking.artifact_location(uri, ""), port, routes())


if __name__ == "__main__":
    browse_program()
