"""The data as tensors (§5, App. D): their files, checksums and stand-ins.

    task           one learning problem; initial sets; rows held out to test on
    mnist          7 vs 9 and 0-9
    splicing       5' splice sites
    faces          ages of faces
    synthetic_1d   the function of Fig. 1
    npz            a task from arrays of one's own
    authors        the authors' initial sets and published curves
    stand_ins      simulated data of the same form, for small scales
    files          downloads that are whole or not there, and where data lie
    image_files    one image file as pixels, as a viewer shows it

Every task is a `Task`: the loop knows nothing of files.
"""
