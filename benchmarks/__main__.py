"""Every benchmark as one table of ratios, side by side in one run, printed and kept in MLflow.

python -m benchmarks                      five to six minutes on two cores
python -m benchmarks --full selection     some of them, at the paper's sizes
"""

import argparse
import time
from dataclasses import asdict, fields
from importlib import import_module

import pandas as pd
from mlflow.entities import Metric
from tqdm import tqdm

from benchmarks.measured import Row
from deimos import tracking
from deimos.progress import progress

PARTS = (
    "training", "selection", "own_pool", "batchbald", "on_gpu", "k_center", "appendix_a",
    "experiment",
)  # fmt: skip
COLUMNS = {
    "seconds": "deimos, s",
    "others": "other, s",
    "times": "times",
    "megabytes": "deimos, MB",
    "others_megabytes": "other, MB",
}
QUESTION = "How fast is deimos, beside other ways to the same results? Ratios within one run."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), metavar="PART", help=str(PARTS))
    parser.add_argument("--full", action="store_true", help="the paper's sizes; takes an hour")
    given = parser.parse_args()
    machine = tracking.machine()
    print(" · ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    with pd.option_context("display.width", 250, "display.max_colwidth", 100):
        parts = [measure(part, given.full) for part in progress(given.parts or PARTS, unit="part")]
    print(f"Kept as the run {keep(pd.concat(parts), machine, given.full)} of `benchmarks`: make ui")


def measure(part: str, full: bool) -> pd.DataFrame:
    """A benchmark's rows, printed as soon as they are there."""
    rows = import_module(f"benchmarks.{part}").rows(full)
    table = pd.DataFrame([asdict(row) for row in rows], columns=[one.name for one in fields(Row)])
    table.insert(4, "times", table.others / table.seconds)
    shown = table.set_index("what").rename(columns=COLUMNS)
    shown = shown.loc[:, (shown.notna() & (shown != "")).any()]
    tqdm.write(f"\n{shown.to_string(float_format='{:.3g}'.format, na_rep='')}\n")
    return table


def keep(table: pd.DataFrame, machine: dict[str, str], full: bool) -> str:
    """The table as a run of its own in the record; the run's name."""
    client, place = tracking.client(), tracking.experiment_id("benchmarks")
    client.set_experiment_tag(place, tracking.NOTE, QUESTION)
    name = f"{'full' if full else 'short'} · {machine['device']} · {machine['commit'][:7]}"
    run = client.create_run(place, tags={"kind": "benchmark", **machine}, run_name=name)
    now, points = int(time.time() * 1000), []
    for row in table.itertuples():
        label = tracking.saved_views.key(f"{row.what} {row.against}")
        values = {f"seconds/{label}": row.seconds, f"times/{label}": row.times}
        points += [Metric(name, x, now, 0) for name, x in values.items() if x == x]
    tracking.log_metrics(run.info.run_id, points)
    place = tracking.Experiment("benchmarks", place, "", run.info.run_id)
    tracking.log_table(place, table.rename(columns=COLUMNS), "benchmarks")
    client.set_terminated(run.info.run_id)
    return name


if __name__ == "__main__":
    main()
