"""The mathematics behind the acquisition functions (§4, §5, App. A): no network and no label.

    fast_selection     the greedy batch in mask space, exact (Algorithm 1, eqs. 5 and 6)
    search_state       what it keeps from pick to pick, and what a label takes from it
    exhaustive         the best of all batches (App. A)
    batchbald          the batch whose labels together tell most about the model (§5)
    set_cover          covers of points by balls, as robust k-Center needs them
    epig               what a label tells about the labels of the sample, DEIMOS' cousin
    from_skactiveml    BADGE, TypiClust and others, as that library has them
    from_bmdal         LCMD and BAIT for regression, as that library has them
    forward_backward   twice the batch forward, then the least missed half is dropped, as in BAIT
    beliefs            the model's view of the sample points, as every function receives it
    checks             predictions, candidates, nuggets and weights, checked; ties
    cores              torch on one core, for small pieces of work
    candidate_blocks   the c × c blocks of every candidate, and its score
    mask_space         F, the centred predictions, a column a point, in parts of a fixed size

`expected_improvement`, `baselines` and `k_center`, one level up, are the face of this folder.
"""
