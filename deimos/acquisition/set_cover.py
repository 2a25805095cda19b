"""Cover all rows but Ξ by b columns: the question of robust k-Center at every radius.

    min Σ_i s_i   such that   Σ_j a_ij u_j + s_i ≥ 1 for every row i,   Σ_j u_j ≤ b,   0 ≤ u, s ≤ 1

with u integer: yes if the minimum is Ξ or less. What cannot matter is dropped first; then the
linear relaxation answers most noes, and a local search the yeses, in a few hundred swaps where
branch and bound may need minutes. HiGHS branches on what is left.

Axes:  m rows (points to cover) · k columns (possible centres)
"""

import numpy as np
from jaxtyping import Bool, Int

from deimos.extras import extra

with extra("reproduce"):
    import highspy
    from highspy import HighsModelStatus as Status
    from scipy import sparse

SWAPS = 10_000  # of the local search; embeddings of MNIST needed 4,000 at most
RELAXATION_TOLERANCE = 1e-6  # of the linear programme's minimum

# The columns chosen, or None; and then whether it is certain that no choice does it.
Answer = tuple[Int[np.ndarray, " _"] | None, bool]


def cover(a: Bool[np.ndarray, "m k"], b: int, outliers: int, seconds: float) -> Answer:
    """At most b columns that leave at most Ξ rows bare, in no more than `seconds` of HiGHS."""
    a, columns = reduce(a, outliers)
    if len(a) <= outliers:
        return columns[:0], True
    highs = relaxation(a, b)
    # The dual simplex stops once its bound is above Ξ; a presolved model would not show that.
    highs.setOptionValue("presolve", "off")
    highs.setOptionValue("objective_bound", outliers + RELAXATION_TOLERANCE)
    if run_solver(highs, seconds) == Status.kObjectiveBound or (
        highs.getModelStatus() == Status.kOptimal
        and highs.getInfo().objective_function_value > outliers + RELAXATION_TOLERANCE
    ):
        return None, True
    chosen, certain = local_search(a, b, outliers), True
    if chosen is None:
        highs.setOptionValue("presolve", "choose")
        highs.setOptionValue("objective_bound", highspy.kHighsInf)
        chosen, certain = branch_and_bound(highs, *a.shape, outliers, seconds - highs.getRunTime())
    return (None if chosen is None else columns[chosen]), certain


def any_cover(a: Bool[np.ndarray, "m k"], b: int, outliers: int, seconds: float) -> Answer:
    """Exactly b of all columns, whichever HiGHS meets first: the authors' question and answer."""
    return branch_and_bound(relaxation(a, b, at_least=b), *a.shape, outliers, seconds)


def reduce(
    a: Bool[np.ndarray, "m k"], outliers: int
) -> tuple[Bool[np.ndarray, "_ _"], Int[np.ndarray, " _"]]:
    """`a` without rows and columns that no answer depends on, and which columns are left.

    A column goes if another covers all that it covers. A row goes if Ξ + 1 others lie within it,
    none easier to cover: one of them is covered, and so is the row. Of equals the first stay.
    """
    columns = np.arange(a.shape[1])
    while True:
        m, k = a.shape
        within = subsets(a.T)
        keep = ~(within & ~(within.T & np.tri(k, dtype=bool))).any(0)
        a, columns = a[:, keep], columns[keep]
        within = subsets(a)
        a = a[(within & ~(within.T & np.tri(m, dtype=bool).T)).sum(1) <= outliers]
        if a.shape == (m, k):
            return a, columns


def subsets(a: Bool[np.ndarray, "m k"]) -> Bool[np.ndarray, "m m"]:
    """[i, j]: row i has every 1 of row j."""
    ones = a.astype(np.float32)  # sums up to 2²⁴ are exact
    overlap = ones @ ones.T
    return overlap == overlap.diagonal()


def local_search(
    a: Bool[np.ndarray, "m k"], b: int, outliers: int, swaps: int = SWAPS
) -> Int[np.ndarray, " _"] | None:
    """b columns that leave at most Ξ rows bare, or None if `swaps` swaps did not find them.

    From the greedy cover on, the column that is missed least makes way for another that covers a
    bare row. Rows gain weight while they are bare, so the search leaves every local optimum.
    """
    rows, columns = a.astype(np.float32), np.ascontiguousarray(a.T, np.float32)
    cover, weight = np.zeros((2, len(a)), np.float32) + [[0], [1]]
    picked = np.zeros(0, int)
    for _ in range(min(b, len(columns))):
        gain = columns @ (cover == 0)
        gain[picked] = -1
        picked = np.append(picked, gain.argmax())
        cover += columns[picked[-1]]
    for swap in range(swaps):
        if (cover == 0).sum() <= outliers:
            return picked
        loss = columns[picked] @ (weight * (cover == 1))
        place = loss.argmin()
        cover -= columns[picked[place]]
        bare = np.flatnonzero(cover == 0)
        weight[bare] += 1
        gain = weight[bare] @ rows[bare] * rows[bare[swap % len(bare)]]
        gain[picked[place]] *= 1e-6  # comes back only if nothing else covers that row
        picked[place] = gain.argmax()
        cover += columns[picked[place]]
    return None


def relaxation(a: Bool[np.ndarray, "m k"], b: int, at_least: int = 0) -> highspy.Highs:
    """The linear programme; u are its first k variables, s the m after them."""
    m, k = a.shape
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.addVars(k + m, np.zeros(k + m), np.ones(k + m))
    highs.changeColsCost(m, np.arange(k, k + m), np.ones(m))
    A = sparse.hstack([sparse.csr_array(a, dtype=float), sparse.eye_array(m)], format="csr")
    infinity = np.full(m, highspy.kHighsInf)
    highs.addRows(m, np.ones(m), infinity, A.nnz, A.indptr[:-1], A.indices, A.data)
    highs.addRow(at_least, b, k, np.arange(k), np.ones(k))
    return highs


def branch_and_bound(highs: highspy.Highs, m: int, k: int, outliers: int, seconds: float) -> Answer:
    """The first integer u with Σ s ≤ Ξ that HiGHS meets."""
    integer = np.full(k, int(highspy.HighsVarType.kInteger), np.uint8)
    highs.changeColsIntegrality(k, np.arange(k), integer)
    highs.changeColsCost(m, np.arange(k, k + m), np.zeros(m))
    highs.addRow(0, outliers, m, np.arange(k, k + m), np.ones(m))
    status = run_solver(highs, seconds)
    if status == Status.kOptimal:
        return np.flatnonzero(np.array(highs.getSolution().col_value[:k]) > 0.5), True
    return None, status == Status.kInfeasible


def run_solver(highs: highspy.Highs, seconds: float) -> Status:
    """Solve within `seconds` and say how it ended; ending by anything but the limits raises."""
    highs.setOptionValue("time_limit", max(seconds, 0.0))
    highs.run()
    status = highs.getModelStatus()
    expected = (Status.kOptimal, Status.kInfeasible, Status.kObjectiveBound, Status.kTimeLimit)
    if status not in expected:
        raise RuntimeError(f"HiGHS ended with {status}")
    return status
