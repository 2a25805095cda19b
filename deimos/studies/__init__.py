"""Studies that one notebook runs beside the loop (Fig. 1, App. A, App. E, notebooks B1 to B4).

    one_dimension       the picture of the method (Fig. 1, notebook 01)
    greedy_vs_optimal   the greedy batch against the best one (App. A, notebook A1)
    calibration         dropout, weight decay and noise chosen on a validation set (App. E)
    ablations           one setting changed at a time (notebook B2)
    rivals              DEIMOS beside what one would use today (notebook B3)
    targets             the same labels on other scales (notebook B4)
    batch_worth         the worth of one batch, beside a random one (notebook B1)

A notebook whose study is no fleet names it in the fingerprint of its runs.
"""

from deimos.extras import need

need("reproduce", "pandas")
