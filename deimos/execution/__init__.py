"""Notebooks run headless: on this machine, or their fleets on every GPU that Ray sees.

    notebooks    one notebook by papermill, its status, and the closing table
    parameters   a notebook's parameters, read, changed by a scale, and checked
    by_hand      the scale of a notebook that somebody runs by hand
    ray_engine   slices of fleets as tasks for Ray, and the worker that runs one

`make reproduce` calls these, one notebook at a time or all that are due with Ray.
"""

from deimos.extras import need

need("reproduce", "mlflow", "papermill")
