"""Exact restricted likelihood-ratio test of one variance, by its distribution without the effect.

With P0 the projection off the columns of X, and the eigenvalues ``mu_s`` of ``Z'P0 Z`` (of weighted
rows), the statistic without the effect is distributed as

    sup_l (n - p) log(1 + N(l) / D(l)) - sum_s log(1 + l mu_s)
    N(l) = sum_s l mu_s / (1 + l mu_s) w_s^2,    D(l) = sum_s w_s^2 / (1 + l mu_s) + c

with independent standard normal w_s and a chi-squared c of ``n - p - K`` degrees of freedom
(Crainiceanu and Ruppert 2004, theorem 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from mixedfx.design.rows import ModelRows
from mixedfx.errors import ArgumentError, check_choice, check_count
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors, check_one_variance
from mixedfx.inference.comparison import deviance_without_term
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.random_streams import spawn_generators

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Values of the variance ratio, relative to 1 / mu, at which the supremum is looked for.
_GRID = np.concatenate([[0.0], np.geomspace(1e-4, 1e5, 400)])
_CHUNK = 200_000  # elements of an array of draws by values
_NO_EIGENVALUE = 1e-10
_INSTEAD = "ranova() tests the term by its likelihood ratio."


def exact_rlrt(fit: FittedModel, term: str | None, n_sim: int, rng: Any) -> pd.Series:
    """Statistic and p-value of one random term with a single variance."""
    check_no_priors(fit, "rlrt()")
    check_one_variance(fit, "rlrt()", "")
    n_sim = check_count("n_sim", n_sim, 100)
    t = _term(fit, term)
    reduced = deviance_without_term(fit, t)
    statistic = max(reduced - _restricted(fit), 0.0)
    in_memory = fit.rows.in_memory
    mu, rest = spectrum(fit.rows, t) if in_memory else spectrum_of_sums(fit.crossprod, t)
    draws = null_draws(mu, rest, n_sim, spawn_generators(rng, 1)[0])
    # A statistic of zero is rounding; draws of it are exact.
    p_value = float((draws >= statistic - 1e-8).mean()) if statistic > 1e-6 else 1.0
    values = {"statistic": statistic, "p_value": p_value, "n_sim": float(n_sim)}
    return pd.Series(values, name=str(fit.spec.random_terms[t].formula_term))


def _restricted(fit: FittedModel) -> float:
    if not fit.reml:
        raise ArgumentError("rlrt() tests a REML fit, and this is one by maximum likelihood.")
    return fit.deviance


def _term(fit: FittedModel, name: str | None) -> int:
    """Position of the term, which must have one effect."""
    terms = fit.spec.random_terms
    if not terms:
        raise ArgumentError(f"'{fit.formula}' has no random term to test.")
    names = [str(term.formula_term) for term in terms]
    if name is None and len(terms) > 1:
        raise ArgumentError(f"rlrt() tests one of the terms: {', '.join(names)}.")
    if name is not None:
        check_choice("term", name, [*names, *(term.group for term in terms)])
        groups = [term.group for term in terms]
        if name in groups and groups.count(name) == 1:
            name = names[groups.index(name)]
        check_choice("term", name, names)
    t = 0 if name is None else names.index(name)
    if len(terms[t].effect_names) > 1 or not terms[t].is_plain:
        raise ArgumentError(
            f"rlrt() tests one variance, and {names[t]} has more, or related levels: write its "
            "effects as terms of their own, '(1 | g) + (0 + x | g)', or take ranova()."
        )
    return t


def spectrum(
    rows: ModelRows, t: int, asked: str = "rlrt()", advice: str = _INSTEAD
) -> tuple[Vector, int]:
    """Positive eigenvalues of ``Z'P0 Z`` of one term's column, and degrees of freedom beside."""
    term = rows.random_terms[t]
    _check_size(term.n_levels, asked, advice)
    root = np.ones(rows.n) if rows.weights is None else np.sqrt(rows.weights)
    Q = np.linalg.qr(root[:, None] * rows.X)[0]
    z = root * term.model_matrix[:, 0]
    ZtQ = np.zeros((term.n_levels, Q.shape[1]))
    np.add.at(ZtQ, term.codes, z[:, None] * Q)
    ZtZ = np.bincount(term.codes, z**2, term.n_levels).astype(float)
    mu = _positive_eigenvalues(ZtZ, ZtQ)
    return mu, rows.n - rows.X.shape[1] - len(mu)


def spectrum_of_sums(crossprod: CrossProducts, t: int) -> tuple[Vector, int]:
    """The same from cross-products, of rows that are not in memory; up to a factor."""
    p, position = crossprod.p, crossprod.term_positions[t]
    group, column = position.group, position.start
    _check_size(len(crossprod.levels[group]), "rlrt()", _INSTEAD)
    root = np.linalg.cholesky(crossprod.XytXy[:p, :p])
    ZtQ = linalg.solve_triangular(root, crossprod.ZtXy[group][column, :p], lower=True).T
    mu = _positive_eigenvalues(crossprod.ZtZ.diagonal[group][column, column], ZtQ)
    return mu, crossprod.n - p - len(mu)


def _check_size(n_levels: int, asked: str, advice: str) -> None:
    """Refuse a matrix that memory does not hold."""
    check_memory(
        f"{asked} of {n_levels:,} levels takes the eigenvalues of a dense matrix",
        8.0 * n_levels**2,
        copies=3,
        advice=advice,
    )


def _positive_eigenvalues(ZtZ: Vector, ZtQ: Matrix) -> Vector:
    """Of ``Z'Z - Z'Q Q'Z``."""
    mu = np.linalg.eigvalsh(np.diag(ZtZ) - ZtQ @ ZtQ.T)
    return np.asarray(mu[mu > _NO_EIGENVALUE * mu.max(initial=0.0)])


def null_draws(
    mu: Vector, rest: int, n_sim: int, rng: np.random.Generator, *, ratio: float = 0.0
) -> Vector:
    """Draws of the statistic, (n_sim,); with a ratio of the variances that is not zero, with it."""
    K, nu = len(mu), len(mu) + rest
    ratios = _GRID[:, None] * (mu / mu.mean())  # l mu_s
    shrunk = ratios / (1.0 + ratios)
    log_det = np.log1p(ratios).sum(axis=1)
    out = np.empty(n_sim)
    step = max(1, _CHUNK // max(K, len(_GRID)))
    for first in range(0, n_sim, step):
        size = min(step, n_sim - first)
        squares = (1.0 + ratio * mu) * rng.standard_normal((size, K)) ** 2
        explained = squares @ shrunk.T  # N(l), (size, grid)
        total = squares.sum(axis=1) + (rng.chisquare(rest, size) if rest else 0.0)
        values = -nu * np.log1p(-explained / total[:, None]) - log_det
        out[first : first + size] = np.maximum(values.max(axis=1), 0.0)
    return out
