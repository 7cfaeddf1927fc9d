"""Theta to deviance: the one number a search looks at, and the estimates it implies.

Hold theta and everything else in the model has a closed form: eliminating the random effects
leaves a small matrix of the fixed columns and the response, one Cholesky factor of it gives
the coefficients, and what the two leave unexplained gives sigma. So a fit, a profile, a
bootstrap and a degree of freedom are all the same call to :func:`solve` at different thetas
or responses.

With ``W`` the weights, ``M = Lambda' Z'WZ Lambda + I``, ``C`` the cross-products of ``[X, y]``
after elimination (``C_XX = X'V^-1 X sigma**2``), ``r2`` what is left of ``y'Wy``:

    ML    d = log|M| - sum log w + n (1 + log(2 pi r2 / n))                   sigma^2 = r2/n
    REML  d = log|M| + log|C_XX| - sum log w + (n-p)(1 + log(2 pi r2/(n-p)))  sigma^2 = r2/(n-p)

Where sigma is known, ``r2 / sigma^2 + nu log(2 pi sigma^2)`` takes the place of the last term,
with ``nu`` the ``n`` or ``n-p`` in it.

Nothing here knows formulas, tables, names, engines, or how theta was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx.covariance import Chart
from mixedfx.crossprod import CrossProducts
from mixedfx.factor import Reduced, factorise
from mixedfx.factor.blocks import flatten, unflatten
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# How far off zero a root is taken to differentiate by a singular covariance.
_OFFSET = 1e-4


@dataclass(frozen=True)
class Solution:
    """
    What one theta implies.

    Parameters
    ----------
    lambdas : tuple of ndarray of shape (k, k)
        Each term's Lambda.
    deviance : float
        -2 log-likelihood (REML: the REML criterion), all constants included.
    beta : ndarray of shape (p,)
        Fixed effects.
    sigma : float
        Residual standard deviation, in units of the response.
    unscaled_cov : ndarray of shape (p, p)
        Covariance of ``beta`` over ``sigma**2``.
    r2 : float
        Penalised residual sum of squares.
    reduced : mixedfx.factor.Reduced
        The elimination, for effects and derivatives.
    """

    lambdas: tuple[Matrix, ...] = field(repr=False)
    deviance: float
    beta: Vector
    sigma: float
    unscaled_cov: Matrix = field(repr=False)
    r2: float
    reduced: Reduced = field(repr=False)
    _weights: Vector = field(repr=False)
    _inner: Matrix = field(repr=False)
    _cross: CrossProducts = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())

    @property
    def theta(self) -> Vector:
        """The covariance parameters."""
        return self._cross.layout.pack(self.lambdas)

    def effects(self) -> list[Matrix]:
        """Conditional means ``b`` of the random effects (BLUPs), (k, levels) per term."""
        return self._cross.term_rows(self.reduced.effects(self._weights)[0])

    def spherical(self) -> list[Matrix]:
        """Spherical effects ``u``, ``b = Lambda u``, (k, levels) per term."""
        return self._cross.term_rows(self.reduced.effects(self._weights)[1])

    def projected(self) -> list[Matrix]:
        """
        ``sigma**2 Z'V^-1 [X B^-1, y - X beta]``, (K, p + 1, levels) per grouping factor.

        ``B`` is the basis of the cross-products. What the random effects see of the fixed
        columns and of the response once both are weighed by the inverse covariance.
        """
        cross, plan = self._cross, self._cross.plan
        sides = np.empty((plan.size, cross.p + 1))
        for f in plan.gram.factors:
            border = cross.border[f]
            rest = np.tensordot(border, self._weights, axes=(1, 0))
            sides[plan.columns(f)] = flatten(
                np.concatenate([border[:, : cross.p], rest[:, None]], axis=1)
            )
        left = sides - plan.matrix @ self.reduced.factor.solve(sides)
        return [unflatten(left[plan.columns(f)], plan.gram.width(f)) for f in plan.gram.factors]

    @property
    def inner_cov(self) -> Matrix:
        """Covariance over ``sigma**2`` of the coefficients of ``X B^-1``."""
        return self._inner

    def conditional_covariances(self) -> list[Matrix]:
        """Covariance of each level's effects given the data and the parameters, (k, k, levels)."""
        m = self._cross.p + 1
        _, blocks = self.reduced.backward(np.zeros((m, m)))
        return [self.sigma**2 * b for b in self._cross.term_blocks(blocks)]


def solve(cross: CrossProducts, theta: Vector, *, reml: bool) -> Solution:
    """
    Solve the penalised least-squares problem at one covariance parameter.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced: ``n`` rows, ``p`` coefficients.
    theta : ndarray of shape (m,)
        Relative covariance parameters, without unit (standard deviations over sigma);
        each term's lower triangle, column by column, terms in formula order.
    reml : bool
        Whether beta is integrated out (REML) or maximised out (ML).

    Returns
    -------
    Solution
        ``deviance`` is -2 log-likelihood with all constants, so it compares across engines
        and with lme4.

    References
    ----------
    .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), equations 34
       and 41.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.design import build
    >>> from mixedfx.crossprod import cross
    >>> d = build(mfx.parse("Yield ~ 1 + (1 | Batch)"), mfx.datasets.load("Dyestuff"))
    >>> round(solve(cross(d), np.array([0.848330]), reml=True).deviance, 4)
    319.6543
    """
    return solve_at(cross, cross.layout.lambdas(np.asarray(theta, dtype=float)), reml=reml)


def solve_at(cross: CrossProducts, lambdas: Sequence[Matrix], *, reml: bool) -> Solution:
    """
    Solve at Lambdas that need not be triangular.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    lambdas : sequence of ndarray of shape (k, k)
        One per term; only ``Lambda Lambda'`` matters.
    reml : bool
        Which criterion.

    Returns
    -------
    Solution
        As :func:`solve`.
    """
    factor = factorise(cross.plan, cross.factor_lambdas(list(lambdas)))
    reduced = factor.reduce(cross.border, cross.corner)
    p = cross.p
    C = reduced.corner
    root, shift, unscaled = _small_solve(C[:p, :p], C[:p, p])
    r2 = float(C[p, p] - C[:p, p] @ shift)
    nu = cross.n - p if reml else cross.n
    log_det = factor.log_det
    if reml:
        log_det += 2.0 * float(np.log(root).sum()) + cross.log_det_basis
    sigma = math.sqrt(r2 / nu) if cross.sigma is None else cross.sigma
    spread = nu * math.log(2.0 * math.pi * sigma**2) + r2 / sigma**2
    natural = shift
    if cross.basis is not None:
        natural = linalg.solve_triangular(cross.basis, shift, check_finite=False)
    return Solution(
        lambdas=tuple(lambdas),
        deviance=log_det - cross.log_weights + spread,
        beta=cross.centre + natural,
        sigma=sigma,
        unscaled_cov=cross.to_natural(unscaled),
        r2=r2,
        reduced=reduced,
        _weights=np.append(-shift, 1.0),
        _inner=unscaled,
        _cross=cross,
    )


def _small_solve(A: Matrix, right: Vector) -> tuple[Vector, Vector, Matrix]:
    """Diagonal of the Cholesky factor of a small matrix, a solution, and the inverse."""
    p = len(A)
    if p == 0:
        return np.zeros(0), np.zeros(0), np.zeros((0, 0))
    root, info = dpotrf(A, lower=1)
    if info != 0:
        raise np.linalg.LinAlgError("fixed columns are dependent")
    solved, _ = dpotrs(root, right, lower=1)
    inverse, _ = dpotri(root, lower=1)
    low = np.tril(inverse)
    return np.diagonal(root), solved, low + np.tril(low, -1).T


def gradient(solution: Solution, *, reml: bool) -> Vector:
    """
    Differentiate the deviance by theta, at a solution.

    Parameters
    ----------
    solution : Solution
        From :func:`solve`, with the same ``reml``.
    reml : bool
        As for the solution.

    Returns
    -------
    ndarray of shape (m,)
        Exact, also where Lambda is singular.

    Notes
    -----
    The deviance depends on the eliminated matrix ``C`` through ``log |C_XX|`` and ``r2``; the
    rest is the factorisation run backwards.
    """
    return solution._cross.layout.pack(slopes(solution, reml=reml))


def hold(solution: Solution, row: Vector, value: float) -> Solution:
    """
    Hold one combination of the fixed effects at a value; the others make the best of it.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood.
    row : ndarray of shape (p,)
        The combination.
    value : float
        What it is to be.

    Returns
    -------
    Solution
        With ``row @ beta == value``, at the same Lambdas; :func:`slopes` goes on from it.

    Notes
    -----
    The least-squares problem has a closed form under one constraint: ``r2`` grows by the square
    of the distance over ``row @ unscaled_cov @ row``.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), reml=False).fit
    >>> hold(fit.solution, np.ones(1), 1500.0).beta
    array([1500.])
    """
    cross = solution._cross
    inner = row if cross.basis is None else linalg.solve_triangular(cross.basis, row, trans="T")
    along, natural = solution._inner @ inner, solution.unscaled_cov @ row
    unit, distance = float(inner @ along), value - float(row @ solution.beta)
    weights = solution._weights.copy()
    weights[:-1] -= along * (distance / unit)
    r2 = solution.r2 + distance**2 / unit
    if cross.sigma is None:
        sigma, risen = math.sqrt(r2 / cross.n), cross.n * math.log(r2 / solution.r2)
    else:
        sigma, risen = cross.sigma, (r2 - solution.r2) / cross.sigma**2
    return replace(
        solution,
        deviance=solution.deviance + risen,
        beta=solution.beta + natural * (distance / unit),
        sigma=sigma,
        unscaled_cov=solution.unscaled_cov - np.outer(natural, natural) / unit,
        r2=r2,
        _weights=weights,
        _inner=solution._inner - np.outer(along, along) / unit,
    )


def hold_all(solution: Solution, beta: Vector) -> Solution:
    """
    Hold all fixed effects, at a known sigma.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood, of cross-products with a known sigma.
    beta : ndarray of shape (p,)
        What they are to be.

    Returns
    -------
    Solution
        At the same Lambdas, with the effects that are best for these coefficients; the
        covariance of the coefficients stays what it was.
    """
    cross, p = solution._cross, solution._cross.p
    assert cross.sigma is not None
    away = beta - solution.beta
    inner = away if cross.basis is None else cross.basis @ away
    weights = solution._weights.copy()
    weights[:p] -= inner
    risen = float(inner @ solution.reduced.corner[:p, :p] @ inner)
    return replace(
        solution,
        deviance=solution.deviance + risen / cross.sigma**2,
        beta=np.asarray(beta, dtype=float),
        r2=solution.r2 + risen,
        _weights=weights,
    )


def widen(solution: Solution, extra: Matrix) -> Solution:
    """
    Add to the covariance of the fixed effects what something outside the model adds to it.

    Parameters
    ----------
    solution : Solution
        Any.
    extra : ndarray of shape (p, p)
        Covariance, in squared units of the coefficients.

    Returns
    -------
    Solution
        Otherwise the same.
    """
    unscaled = extra / solution.sigma**2
    basis = solution._cross.basis
    inner = unscaled if basis is None else basis @ unscaled @ basis.T
    return replace(
        solution,
        unscaled_cov=solution.unscaled_cov + unscaled,
        _inner=solution._inner + inner,
    )


def believe(solution: Solution, mean: Vector, sd: Vector) -> Solution:
    """
    Take normal priors of the fixed effects into account.

    Parameters
    ----------
    solution : Solution
        By REML, which is to say with flat priors, at a known sigma.
    mean, sd : ndarray of shape (p,)
        Of the priors; an infinite ``sd`` keeps the flat one, zero makes a constant.

    Returns
    -------
    Solution
        ``deviance`` is -2 log of the response's density, fixed and random effects integrated
        out; ``beta`` and ``unscaled_cov`` are mean and covariance given Lambda and sigma.
        :func:`slopes` goes on from it.

    Notes
    -----
    With flat priors ``beta`` is normal with the generalised least-squares mean and covariance
    ``K``, so with a prior ``N(m, S)`` on some of it the density of the response changes by that
    of the estimate, ``N(m, K + S)``, and the mean by a Kalman step.

    References
    ----------
    .. [1] Lindley and Smith (1972), J. R. Stat. Soc. B 34:1, section 2.
    """
    known = np.isfinite(sd)
    if not known.any():
        return solution
    cross, s2 = solution._cross, solution.sigma**2
    cov = s2 * solution.unscaled_cov
    spread = cov[np.ix_(known, known)] + np.diag(sd[known] ** 2)
    root = np.linalg.cholesky(spread)
    away = mean[known] - solution.beta[known]
    scaled = linalg.solve_triangular(root, away, lower=True)
    gain = np.asarray(linalg.cho_solve((root, True), cov[known])).T
    beta = solution.beta + gain @ away
    after = cov - gain @ cov[known]
    after = 0.5 * (after + after.T)
    constant = known & (sd == 0.0)  # exactly, where rounding leaves a trace
    beta[constant], after[constant], after[:, constant] = mean[constant], 0.0, 0.0
    log_spread = 2.0 * float(np.log(np.diag(root)).sum())
    inner, inner_cov = beta - cross.centre, after / s2
    if cross.basis is not None:
        inner, inner_cov = cross.basis @ inner, cross.basis @ inner_cov @ cross.basis.T
    weights = np.append(-inner, 1.0)
    return replace(
        solution,
        deviance=solution.deviance
        + log_spread
        + float(scaled @ scaled)
        + int(known.sum()) * math.log(2.0 * math.pi),
        beta=beta,
        unscaled_cov=after / s2,
        r2=float(weights @ solution.reduced.corner @ weights),
        _weights=weights,
        _inner=inner_cov,
    )


def log_sigma_slope(solution: Solution) -> float:
    """
    Differentiate the deviance by log sigma, Lambda held.

    Parameters
    ----------
    solution : Solution
        By REML, or of :func:`believe`, at a known sigma.

    Returns
    -------
    float
        Of the density with the fixed effects integrated out.
    """
    cross, p = solution._cross, solution._cross.p
    told = float(np.sum(solution._inner * solution.reduced.corner[:p, :p]))
    return 2.0 * (cross.n - told - solution.r2 / solution.sigma**2)


def deviance_at(solution: Solution, sigma: float) -> float:
    """
    Deviance of maximum likelihood with sigma held, not at its best.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood.
    sigma : float
        Residual standard deviation, positive, in units of the response.

    Returns
    -------
    float
        -2 log-likelihood at the solution's Lambdas and beta, which sigma does not change.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), reml=False).fit
    >>> deviance_at(fit.solution, 2 * fit.solution.sigma) > fit.solution.deviance
    True
    """
    n, ratio = solution._cross.n, solution.r2 / sigma**2
    return solution.deviance + n * (math.log(n / ratio) - 1.0) + ratio


def slopes(solution: Solution, *, reml: bool, sigma: float | None = None) -> list[Matrix]:
    """
    Differentiate the deviance by every entry of every Lambda.

    Parameters
    ----------
    solution : Solution
        From :func:`solve` or :func:`solve_at`, with the same ``reml``.
    reml : bool
        As for the solution.
    sigma : float, optional
        A residual standard deviation that is held, as in :func:`deviance_at`, instead of
        following Lambda.

    Returns
    -------
    list of ndarray of shape (k, k)
        One per term, also above the diagonal.
    """
    cross, w = solution._cross, solution._weights
    inner = (solution.sigma if sigma is None else sigma) ** -2.0 * np.outer(w, w)
    if reml:
        inner[: cross.p, : cross.p] += solution._inner
    gradients, _ = solution.reduced.backward(inner)
    return cross.term_blocks(gradients)


def average_information(solution: Solution, chart: Chart, *, reml: bool) -> Matrix:
    """
    Average of the observed and the expected Hessian of the deviance, sigma profiled out.

    Parameters
    ----------
    solution : Solution
        With the same ``reml``.
    chart : Chart
        The coordinates of Lambda.
    reml : bool
        As for the solution.

    Returns
    -------
    ndarray of shape (m, m)
        Positive semidefinite. It costs as much as ``m`` right sides, not a factorisation.

    Notes
    -----
    With ``D_i`` the derivative of ``Lambda Lambda'``, ``g = Z'W(y - X beta - Z b)`` and
    ``w_i = D_i g``, the entries are ``w_i' Z'PZ w_j / sigma**2 - h_i h_j / nu``,
    ``h_i = g'w_i / sigma**2``. The traces that both Hessians hold cancel in their average.

    References
    ----------
    .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51:1440, equation 9.
    """
    cross, plan = solution._cross, solution._cross.plan
    b, _ = solution.reduced.effects(solution._weights)
    flat = np.zeros(plan.size)
    for f in plan.gram.factors:
        flat[plan.columns(f)] = b[f].ravel()
    explained = plan.matrix @ flat
    directions = np.zeros((plan.size, chart.size))
    along = np.zeros(chart.size)
    for t, lam in enumerate(solution.lambdas):
        slot = cross.slots[t]
        part = slice(slot.start, slot.start + slot.width)
        L = plan.gram.levels(slot.factor)
        rest = np.tensordot(cross.border[slot.factor], solution._weights, axes=(1, 0))
        g = (rest - explained[plan.columns(slot.factor)].reshape(-1, L))[part]
        lamg = lam.T @ g
        at = plan.starts[slot.factor] + slot.start * L
        start = chart.slices[t].start
        for i, (row, col) in enumerate(zip(*chart.positions[t], strict=True)):
            w = np.outer(lam[:, col], g[row])
            w[row] += lamg[col]
            directions[at : at + w.size, start + i] = w.ravel()
            along[start + i] = np.vdot(g, w)
    return _projected(solution, directions, along, reml)


def _projected(solution: Solution, directions: Matrix, along: Vector, reml: bool) -> Matrix:
    """``w'Z'PZw / sigma**2`` for the columns of ``directions``, sigma profiled out."""
    cross, plan = solution._cross, solution._cross.plan
    m, p, nu = directions.shape[1], cross.p, cross.n - cross.p if reml else cross.n
    columns = np.empty((plan.size, m + p))
    columns[:, :m] = plan.matrix @ directions
    for f in plan.gram.factors:
        columns[plan.columns(f), m:] = flatten(cross.border[f][:, :p])
    corner = np.empty((m + p, m + p))
    corner[:m] = directions.T @ columns
    corner[m:, :m] = corner[:m, m:].T
    corner[m:, m:] = cross.corner[:p, :p]
    border = [unflatten(columns[plan.columns(f)], plan.gram.width(f)) for f in plan.gram.factors]
    left = solution.reduced.factor.reduce(border, corner).corner
    projected = left[:m, :m] - left[:m, m:] @ solution._inner @ left[m:, :m]
    s2 = solution.sigma**2
    profiled = 0.0 if cross.sigma is not None else np.outer(along, along) / (nu * s2 * s2)
    return np.asarray(projected / s2 - profiled)


def score(
    cross: CrossProducts,
    lambdas: Sequence[Matrix],
    *,
    frames: Sequence[Matrix],
    reml: bool,
) -> list[Matrix]:
    """
    Differentiate the deviance by each term's relative covariance ``Lambda Lambda'``.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    lambdas : sequence of ndarray of shape (k, k)
        One per term; singular ones are what this is for.
    frames : sequence of ndarray of shape (k, k)
        Columns in which the covariance is meant: those of ``Z`` times these.
    reml : bool
        Which criterion.

    Returns
    -------
    list of ndarray of shape (k, k)
        Symmetric ``S`` with ``dd = tr(S d(Lambda Lambda'))``, in scaled units.

    Notes
    -----
    The derivative by Lambda is ``2 S Lambda``, which says nothing of S where Lambda is
    singular. So a square root with all its columns slightly off zero is taken, and S is read
    from the derivative there, with an error of the order of the offset squared.
    """
    roots = []
    for lam, frame in zip(lambdas, frames, strict=True):
        framed = np.linalg.solve(frame, lam)
        values, vectors = np.linalg.eigh(framed @ framed.T)
        roots.append(vectors * np.maximum(np.sqrt(np.clip(values, 0.0, None)), _OFFSET))
    near = [frame @ root for root, frame in zip(roots, frames, strict=True)]
    result = []
    by_lambda = slopes(solve_at(cross, near, reml=reml), reml=reml)
    for slope, root, frame in zip(by_lambda, roots, frames, strict=True):
        S = np.linalg.solve(root.T, 0.5 * (frame.T @ slope).T).T
        result.append(0.5 * (S + S.T))
    return result
