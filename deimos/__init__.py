"""Active learning by expected improvement maximization (DEIMOS), and the reproduction of its paper.

    expected_improvement   §3.3-4: covariance, expected improvement, Algorithm 1 (eqs. 3-6)
    baselines, k_center    §5: the acquisition functions that DEIMOS is compared with
    acquisition            the mathematics behind these three
    models, tasks          §3.2, App. D, E: networks and their fits; the data as tensors
    experiment             §5: one run, from its settings to its last batch
    studies                what one notebook alone computes: Fig. 1, App. A, App. E, ablations
    stats                  App. C: the mixed-model test, labels to reach a score
    record, tracking       every run in MLflow, and the one door to it
    report, execution      verdicts, figures and pages; notebooks run headless
    extras                 one sentence for a package that a plain install leaves out
    progress               progress as a bar in terminals and notebooks, else as lines
    pool, label_next       the next batch from a model, or from files, of your own

Symbols, the same everywhere:  J masks · S sample points · c outputs (1 in regression) ·
n candidates · b batch size · `noise` τ⁻¹ · `smoothing` τ_s⁻¹ · `decay` C, with λ = C/N.
"""

from importlib import import_module

# The public face, loaded when first asked for: a part of the package loads no more than it needs.
_FACE = {"prepare": "deimos.pool.select_batch", "select_batch": "deimos.pool.select_batch"}


def __getattr__(name: str) -> object:
    if name in _FACE:
        return getattr(import_module(_FACE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
