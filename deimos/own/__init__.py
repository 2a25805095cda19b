"""The next batch from files of one's own: what `python -m deimos` needs beside the library.

    files, tables   pools and labelled points from tables, folders of images and arrays
    labels          classes or values, and which of them are held out
    networks        the paper's net for points of that kind and shape
    rounds          one round: fit, validate, pick, and see what the batch is worth
    report          the page on a round
    figures         its pictures
    record          its run in MLflow
    second_round    what a batch was worth once its labels are there (notebook B1)
    examples        files to try it on

The library's own doors, `select_batch` and the adapters, are in `deimos.pool`.
"""
