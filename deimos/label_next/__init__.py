"""The next batch from files of one's own: what `python -m deimos` needs beside the library.

    command         what the command does, from its options to its last line
    points          what all of these are once they are read
    files           pools and labelled points from tables, folders of images and arrays
    arrays          arrays as points, in the layouts of torch and of Keras
    table_files     a table's file as text: encodings, separators, headers, and what is no table
    tables, labels  which column is what; labels as classes or values, and those held out
    repeats         points that come twice; those of the pool that are labelled
    inventory       what was read as what, in the lines that the command begins with
    networks        the paper's net for points of that kind and shape
    rounds          one round: fit, validate, pick, and see what the batch is worth
    report          the page on a round
    figures         its pictures
    record          its run in MLflow
    second_round    what a batch was worth once its labels are there (notebook B1)
    examples        files to try it on

The library's own doors, `pool`, is one level up.
"""

from deimos.extras import need

need("reproduce", "mlflow", "pandas", "matplotlib", "PIL")
