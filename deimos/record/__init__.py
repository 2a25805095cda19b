"""The record in MLflow; notebooks reach it through `deimos.tracking`.

    store           its place: an SQLite file, a database or an MLflow server
    executions      one run an execution of a notebook, with its figures, tables and verdicts
    fleets          one run a member of a fleet, an iteration as one step of it
    claims          members being worked on, so that nothing is done twice at once
    process_locks   signs of life of processes, as their locks tell
    provenance      the code, commit and machine that a result depends on
    queries         runs that count, and how far each of them came
    results         all measurements as one tidy table, and the acquired ids
    evidence        origin of an experiment's runs, and doubts about them
    ui              MLflow's UI: its start, links into it, saved charts
    archive         runs as one file, from one store to another
    measure_later   what kept runs did not measure, from what they kept
    points          points that a run acquired and was tested on, as small files of it
    run_rows        rows of an archive written into a database at once
    saved_views     charts saved in MLflow's UI

No code that computes a number imports it: `loop` hands out iterations, `fleets` writes them.
"""

from deimos.extras import need

need("reproduce", "mlflow", "pandas", "pooch")
