"""The paper's claims, our verdicts on them, and the figures and pages that show both.

    paper          the paper's claims and numbers as data
    verdicts       the outcome of each claim, from a table of our runs
    figures        one function a figure
    results_page   the results of the kept runs, written into docs and README
    alternatives   what one could do instead: the kept runs of B2 and B3
    archived       measurements of one archive, and what a sentence tells of them
    browse         our own page before MLflow's UI
    curve_checks   what is said of mean curves and of numbers, checked
    explained      what explains the curves, from the kept runs
    findings       what a check finds, as data
    front_page     that page as HTML
    judging        a claim's outcome, as data
    lessons        numbers in a page's sentences, and whether these still hold
    method_checks  claimed differences between methods, checked
    notebook_page  an executed notebook as Markdown
    overview       the overview figure: a panel an experiment
    resamples      resampled repeats and simulated curves under no difference
    side_by_side   one line an experiment: these runs beside the kept ones
    starts         B3 by labels at the start: a table and a figure
    summaries      the table for people: means at budgets, gaps to the authors' curves

Verdicts are data; `figures` and `results_page` alone make pictures and text of them.
"""

from deimos.extras import need

need("reproduce", "mlflow", "pandas", "matplotlib", "seaborn")
