"""Uncertainty of rows: the joint covariance of the fixed and the random effects.

A row's mean ``x'beta + z'b`` is estimated with an error whose variance is, over ``sigma**2``,

    z'Cz + (x - B'Cz)' Q (x - B'Cz)

with ``C = Lambda M^-1 Lambda'``, ``B = Z'WX`` and ``Q`` the covariance of beta over ``sigma**2``.

The same form gives the standard error of a prediction and, at the rows of the fit, their
leverage. ``C`` is never formed whole: only the entries of levels that rows can bring together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.criterion import Solution
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.factor import Probes, probes
from mixedfx.fit import Fit

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Up to so many numbers, all entries of C that rows can ask for are made at once; beyond, the
# columns are made for the rows in turn.
_STORED = 60_000_000
_PORTION = 4_000_000


@dataclass(frozen=True)
class Rows:
    """
    Rows whose uncertainty is asked for.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Fixed columns.
    values : sequence of ndarray of shape (n, k)
        Each random term's columns.
    codes : sequence of ndarray of shape (n,)
        Each random term's levels; negative for a level without an effect to add.
    """

    X: Matrix = field(repr=False)
    values: Sequence[Matrix] = field(repr=False)
    codes: Sequence[Codes] = field(repr=False)


def design_rows(design: Design) -> Rows:
    """
    Take the rows of a design.

    Parameters
    ----------
    design : Design
        Any design.

    Returns
    -------
    Rows
        All of them.
    """
    blocks = design.blocks
    return Rows(design.X, [b.values for b in blocks], [b.codes for b in blocks])


def residuals(design: Design, solution: Solution) -> Vector:
    """
    Take the fixed and the random part off the response.

    Parameters
    ----------
    design : Design
        The rows.
    solution : Solution
        What was estimated of them.

    Returns
    -------
    ndarray of shape (n,)
        In units of the response.
    """
    rest = design.y - design.X @ solution.beta
    for block, b in zip(design.blocks, solution.effects(), strict=True):
        block.add_to(rest, -b)
    return rest


def variances(fit: Fit, rows: Rows) -> Vector:
    """
    Variance of the error of each row's mean, random effects included.

    Parameters
    ----------
    fit : Fit
        Any fit.
    rows : Rows
        Levels that are negative contribute nothing.

    Returns
    -------
    ndarray of shape (n,)
        In squared units of the response; NaN where the columns are.

    References
    ----------
    .. [1] Henderson (1975), Biometrics 31:423, section 4.
    """
    return fit.solution.sigma**2 * unscaled_variances(fit.cross, fit.solution, rows)


def unscaled_variances(
    cross: CrossProducts, solution: Solution, rows: Rows, *, fixed: bool = True
) -> Vector:
    """
    Variance of the error of each row's mean, over ``sigma**2``.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    solution : Solution
        What one theta implies.
    rows : Rows
        Levels that are negative contribute nothing.
    fixed : bool
        Whether the coefficients are uncertain too; False for those of the effects given them.

    Returns
    -------
    ndarray of shape (n,)
        NaN where the columns are.
    """
    own, seen = np.zeros(len(rows.X)), np.zeros((1, 1))
    if cross.slots:
        own, seen = _random_part(cross, solution, rows)
    if not fixed or not cross.p:
        return own
    x = rows.X
    if cross.basis is not None:
        x = linalg.solve_triangular(cross.basis, x.T, trans="T").T
    x = x - seen
    return np.asarray(own + np.einsum("np,pq,nq->n", x, solution.inner_cov, x))


def _random_part(cross: CrossProducts, solution: Solution, rows: Rows) -> tuple[Vector, Matrix]:
    """``z'Cz`` (n,) and ``z'CB`` (n, p) of each row."""
    plan, solve = cross.plan, solution.reduced.factor.solve
    shared = solve(cross.flat_border)
    entries = _entries(cross, rows)
    seen = np.zeros((len(rows.X), cross.p))
    for _, _, _, at, value in entries:
        seen += value[:, None] * shared[at]
    probe = probes(plan)
    if probe.cost <= _STORED:
        return _from_store(probe, probe.store(solve), entries), seen
    return _row_by_row(plan.size, solve, entries), seen


Entry = tuple[int, Codes, int, Codes, Vector]  # factor, level, effect, column in the plan, value


def _entries(cross: CrossProducts, rows: Rows) -> list[Entry]:
    """Columns of ``Z`` that are not zero in a row: one for each effect of each term."""
    plan, found = cross.plan, []
    for slot, values, codes in zip(cross.slots, rows.values, rows.codes, strict=True):
        level, known = np.maximum(codes, 0), codes >= 0
        L = plan.gram.levels(slot.factor)
        for a in range(slot.width):
            effect = slot.start + a
            at = plan.starts[slot.factor] + effect * L + level
            value = np.where(known, values[:, a] if len(values) else 0.0, 0.0)
            found.append((slot.factor, level, effect, at, value))
    return found


def _from_store(probe: Probes, store: Matrix, entries: list[Entry]) -> Vector:
    gram = probe.plan.gram
    total = np.zeros(len(entries[0][1]))
    for f, level, _, at, value in entries:
        for g, other, b, _, weight in entries:
            slot = probe.starts[g] + probe.ranks[g][other] * gram.width(g) + b
            meet = probe.parts[f][level] == probe.parts[g][other]
            total += np.where(meet, store[at, slot] * value * weight, 0.0)
    return total


def _row_by_row(size: int, solve: Callable[[Matrix], Matrix], entries: list[Entry]) -> Vector:
    keys = np.column_stack([c for _, _, _, at, value in entries for c in (at, value)])
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    columns, weights = distinct[:, ::2].astype(np.intp), distinct[:, 1::2]
    total = np.empty(len(distinct))
    step = max(1, _PORTION // size)
    for first in range(0, len(distinct), step):
        at, value = columns[first : first + step], weights[first : first + step]
        z = np.zeros((size, len(at)))
        np.add.at(z, (at.T, np.arange(len(at))), value.T)
        total[first : first + step] = np.einsum("qn,qn->n", z, solve(z))
    return np.asarray(total[inverse.ravel()])


def leverage(fit: Fit) -> Vector:
    """
    Derivative of each row's fitted value by its response.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    ndarray of shape (n,)
        The diagonal of the matrix that turns the response into the fitted values; between
        zero and one.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Stat. Med. 24:893, section 4.
    """
    variance = variances(fit, design_rows(fit.design)) / fit.solution.sigma**2
    return variance if fit.design.weights is None else variance * fit.design.weights
