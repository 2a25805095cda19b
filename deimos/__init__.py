"""Active learning by expected improvement maximization (DEIMOS), and the reproduction of its paper.

    expected_improvement   the paper: covariance, EI, conditioning, greedy and optimal batches
    fast_selection (mask_space, candidate_blocks)
                           the same greedy batch without the covariance matrix, exact
    inputs (cores)         what both are given, checked; how they use the machine
    optimality             greedy against the best batch (App. A)
    mc_dropout (beliefs)   J masks drawn once and shared by every point
    networks, training     the paper's nets, and how they are fitted from scratch
    together (all_trunks, tap_pooling)
                           the same for a fleet in step, and in the forms that a GPU is fastest at
    baselines, batchbald, k_center (covering), forward_backward
                           the acquisition functions DEIMOS is compared with
    methods                all of them by name, and what each is shown
    data, splicing, faces, synthetic, own_data (splits, downloads, image_files, stand_ins)
                           the tasks: where files come from, and how we know they are the right ones
    one_dimension          the picture of the method (Fig. 1)
    calibration            how dropout, weight decay and noise are chosen (App. E)
    members, iteration     what a run is; label, fit, evaluate, acquire, once
    loop (limits)          the same to the end, for a fleet of runs
    progress               a bar in terminals and notebooks, a line now and then in a log
    tracking, record       the record in MLflow: one door for notebooks, and what is behind it
    provenance             the code, commit and machine that a result depends on
    stats, verdicts        the paper's tests and ours, and what they say of each claim
    figures, paper         the paper's figures and numbers
    reproduce, readme      one notebook, headless; the README's results from the kept runs
    browse, front_page     the page that `make ui` opens on, before MLflow's own
    engine, worker, slices the fleets of notebooks as tasks on every GPU that Ray sees
    pool                   the next batch from a pool and a model of your own: `select_batch`; for
                           users of baal and scikit-activeml, too, which nothing else here needs
    label_next             the same for files, as `python -m deimos select`
    extras                 what a plain install leaves out, told with the command that brings it
    variants               one setting changed at a time: which of them matter

Symbols, the same everywhere:  J masks · S sample points · c outputs (1 in regression) ·
n candidates · b batch size · `noise` τ⁻¹ · `smoothing` τ_s⁻¹ · `decay` C, with λ = C/N.
"""

from deimos.pool.select_batch import prepare as prepare
from deimos.pool.select_batch import select_batch as select_batch
