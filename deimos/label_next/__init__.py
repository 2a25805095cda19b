"""The next batch from files of one's own: the command `python -m deimos select`.

    files         pools and labelled points from tables, folders of images and arrays
    tables        columns of a table as sequences, numbers, classes and values
    networks      the paper's net for points of that kind and shape
    rounds        one round: fit, validate, pick, and measure the batch
    report        the page on a round
    figures       its pictures
    record        its run in MLflow
    examples      files to try it on
    arrays        arrays of one's own as points
    command       the command, from its options to its last line
    inventory     the sentence on what was read as what
    labels        labels as classes or values; points held out
    points        points of one kind, however they came
    repeats       points that are given twice
    table_files   one table file as text columns

`python -m deimos` alone imports this folder; from Python, `deimos.select_batch` is the door.
"""

from deimos.extras import need

need("reproduce", "mlflow", "pandas", "matplotlib", "PIL")
