"""The record in MLflow; notebooks reach it through `deimos.tracking`.

    store        where it lies: an SQLite file, a database or an MLflow server
    executions   one run an execution of a notebook, with its figures, tables and verdicts
    fleets       one run a member of a fleet, an iteration as one step of it
    claims       who is at work on what, so that nothing is done twice at once
    alive        whether a process still lives, as its locks tell
    reading      which runs count, and how far each of them came
    results      all measurements as one tidy table, what was acquired, and from where
    saved_views  charts saved in MLflow's UI
    ui           MLflow's UI served on this machine, and links into it
    run_rows     whole runs as rows of MLflow's database
    points       what a run began with and is tested on, and what it said of its picks
    archive      runs as one file, from one store to another

What computes a number knows nothing of it: `loop` hands out iterations, `fleets` writes them.
"""
