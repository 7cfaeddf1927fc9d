"""A distribution of residual standard deviations: each level's drawn from a normal, in logarithms.

``log sd_i = D_i gamma + v_g``, ``v_g ~ N(0, tau^2)`` for the level ``g`` of row ``i``. Given
``v`` everything is Gaussian: the random effects of the mean, and under REML the coefficients,
are integrated exactly by the criterion. What is left is an integral over ``v``, by Laplace's
approximation: with ``u = v / tau``, at the minimum of ``d(tau u) + u'u``,

    -2 log L  =  d(tau u) + u'u + log |I + tau^2 H / 2|

``d`` is the deviance given ``v``, ``H`` its Hessian by ``v``. Both derivatives are exact: with
``P`` what the criterion projects by, ``R_g`` the rows' variances in level ``g`` and zero
elsewhere, and ``e`` the residuals given the effects,

    dd/dv_g       = 2 tr(P R_g) - 2 e_g'W e_g
    d2d/dv_g dv_h = -4 tr(P R_g P R_h) + 8 e_g'P e_h + [g = h] (4 tr(P R_g) - 4 e_g'W e_g)

where everything of ``P = W - W T C T'W``, ``T = [Z X]``, is had from roots ``F_g`` of
``T_g'W T_g``, whose columns are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance import rectify
from mixedfx.criterion import Solution, hold_all, solve_at
from mixedfx.crossprod import CrossProducts, centred_sides, random_columns
from mixedfx.design import Block, Design, Scale
from mixedfx.dispersion import Dispersion, Spread
from mixedfx.engines.dispersion import Coordinates, inner_search
from mixedfx.engines.trust import Minimum, minimise
from mixedfx.errors import EngineRefusal
from mixedfx.factor.blocks import flatten
from mixedfx.fit import Control, Search
from mixedfx.strata import stratify

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Steps of differences, in coordinates of order one.
_STEP, _WIDE = 1e-4, 1e-3
# The inner search ends this near to its minimum; a last Newton step squares the distance, since
# the determinant is not stationary there and outer differences see its rounding.
_INNER = Control(tolerance=1e-10, max_evaluations=100)
# A search begins with this standard deviation of the log residual ones, and no variance of the
# mean below this share of the residual one: zero is stationary for any data.
_START, _LIFT = 0.3, 0.1
# Below this the levels have one residual standard deviation.
_ZERO = 1e-3
# Matrices of so many columns are factorised at every step.
_MOST = 4000


@dataclass(frozen=True)
class _Inner:
    """The integrand at one point, and its derivatives by ``v``."""

    cross: CrossProducts
    solution: Solution
    gradient: Vector
    hessian: Matrix


@dataclass(frozen=True)
class _Place:
    """Where the outer coordinates stand: theta, log standard deviation, tau, coefficients."""

    theta: slice
    level: int
    scale: slice
    tau: int
    beta: slice
    size: int

    @staticmethod
    def of(m: int, k: int, p: int) -> _Place:
        """Lay them out for ``m`` thetas, ``k`` coordinates of the scale, ``p`` coefficients."""
        tau = m + 1 + k
        return _Place(
            slice(0, m), m, slice(m + 1, tau), tau, slice(tau + 1, tau + 1 + p), tau + 1 + p
        )


class _Laplace:
    """
    The approximate deviance as a function of everything that is not integrated out.

    Units are taken from ``plain``, the fit with one residual standard deviation; under ML the
    coefficients are coordinates, too. ``u`` is where the integrand's mode was found last.
    """

    def __init__(
        self, design: Design, scale: Scale, block: Block, plain: Solution, *, reml: bool
    ) -> None:
        self.design, self.block, self.plain, self.reml = design, block, plain, reml
        self.scale = scale
        by_columns = scale.strata()
        first = np.unique(by_columns, return_index=True)[1]
        self.coordinates = Coordinates.of(scale.columns, first)
        L, n = len(block.levels), len(block.codes)
        keys, codes = np.unique(by_columns * L + block.codes, return_inverse=True)
        self.codes: Codes = np.asarray(codes.ravel(), dtype=np.intp)
        self.of_columns, self.of_level = np.divmod(keys, L)
        self.strata = stratify(design, self.codes)
        self.whole = self.strata.plain
        k = self.coordinates.by_stratum.shape[1]
        self.place = _Place.of(self.whole.layout.size, k, 0 if reml else self.whole.p)
        self.counts = np.bincount(block.codes, minlength=L).astype(float)
        self.members = sparse.csr_array((np.ones(n), (np.arange(n), block.codes)), shape=(n, L))
        self.u = np.zeros(L)
        self.evaluations = 0
        self._roots: tuple[bytes, tuple[Matrix, Codes]] | None = None

    @cached_property
    def columns(self) -> sparse.csr_array:
        """``T = [Z X]`` over the rows, columns of Z in the order of elimination."""
        Z = random_columns(self.design, self.whole)
        none = np.zeros((len(self.codes), 0))
        X = np.column_stack([none, *centred_sides(self.design)[0][:-1]])
        return sparse.csr_array(sparse.hstack([Z, sparse.csr_array(X)]))

    def logs(self, point: Vector) -> Vector:
        """Log standard deviation of each stratum without ``v``."""
        base = math.log(self.plain.sigma) + point[self.place.level]
        by_columns = self.coordinates.by_stratum @ point[self.place.scale]
        return np.asarray(base + by_columns[self.of_columns])

    def lambdas(self, point: Vector) -> list[Matrix]:
        """Roots of the absolute covariances of the random effects."""
        made = self.whole.layout.lambdas(point[self.place.theta])
        return [self.plain.sigma * (f @ m) for f, m in zip(self.whole.frames, made, strict=True)]

    def beta(self, point: Vector) -> Vector:
        """Coefficients, where they are coordinates: in standard errors from the plain fit."""
        errors = self.plain.sigma * np.sqrt(np.diag(self.plain.unscaled_cov))
        return np.asarray(self.plain.beta + errors * point[self.place.beta])

    def roots(self, logs: Vector) -> tuple[Matrix, Codes]:
        """Roots ``F_g`` of ``T_g'W T_g``, side by side, and the level of each column."""
        relative = logs - logs[0]
        key = relative.tobytes()
        if self._roots is None or self._roots[0] != key:
            self._roots = key, self._new_roots(relative)
        stored, owner = self._roots[1]
        return stored * math.exp(-logs[0]), owner

    def _new_roots(self, logs: Vector) -> tuple[Matrix, Codes]:
        w = np.exp(-logs[self.codes])
        if self.design.weights is not None:
            w = w * np.sqrt(self.design.weights)
        T = sparse.csr_array(self.columns.multiply(w[:, None]))
        made, owner = [], []
        for g in range(len(self.counts)):
            mine = T[np.flatnonzero(self.block.codes == g)]
            at = np.unique(mine.indices)
            dense = mine[:, at].toarray()
            _, values, right = np.linalg.svd(dense, full_matrices=False)
            kept = values > 1e-10 * values[0]
            root = np.zeros((T.shape[1], int(kept.sum())))
            root[at] = right[kept].T * values[kept]
            made.append(root)
            owner.append(np.full(root.shape[1], g))
        F = np.concatenate(made, axis=1)
        if F.shape[1] + len(self.counts) > _MOST:
            raise EngineRefusal(
                f"a random term in dispersion= needs a matrix of {F.shape[1] + len(self.counts)} "
                f"columns here, and at most {_MOST} are supported: take fewer rows or levels."
            )
        return F, np.concatenate(owner)

    def inner(self, point: Vector, v: Vector) -> _Inner:
        """Deviance given ``v``, with its derivatives by it."""
        logs = self.logs(point)
        by_row = logs[self.codes] + v[self.block.codes]
        cross = self.strata.weighed(np.exp(-2.0 * (logs + v[self.of_level])))
        cross = replace(cross, sigma=1.0)
        solution = solve_at(cross, self.lambdas(point), reml=self.reml)
        if not self.reml:
            solution = hold_all(solution, self.beta(point))
        w = np.exp(-2.0 * by_row)
        if self.design.weights is not None:
            w = w * self.design.weights
        rest = self.design.y - self.design.X @ solution.beta
        for block, b in zip(self.design.blocks, solution.effects(), strict=True):
            block.add_to(rest, -b)
        left = np.bincount(self.block.codes, w * rest**2, len(v))
        F, owner = self.roots(logs)
        T = self.columns
        K = (T.T @ (sparse.diags_array(w * rest) @ self.members)).toarray()
        product = self._through(cross, solution, np.concatenate([F * np.exp(-v[owner]), K], axis=1))
        R = F.shape[1]
        belongs = sparse.csr_array((np.ones(R), (np.arange(R), owner)), shape=(R, len(v)))
        hats = np.bincount(owner, np.diag(product)[:R], len(v))
        squares = belongs.T @ (product[:R, :R] ** 2) @ belongs
        free = self.counts - hats
        hessian = -4.0 * squares - 8.0 * product[R:, R:]
        diagonal = -4.0 * (self.counts - 2.0 * hats) + 8.0 * left + 4.0 * free - 4.0 * left
        hessian[np.diag_indices_from(hessian)] += diagonal
        return _Inner(cross, solution, 2.0 * free - 2.0 * left, 0.5 * (hessian + hessian.T))

    def _through(self, cross: CrossProducts, solution: Solution, right: Matrix) -> Matrix:
        """``right' C right``: uncertainty of the effects, under REML of the coefficients too."""
        q, p = cross.plan.size, cross.p
        V = solution.reduced.factor.solve(right[:q])
        out = right[:q].T @ V
        if self.reml and p:
            E = right[q:] - _border(cross).T @ V
            out += E.T @ solution.inner_cov @ E
        return np.asarray(out)

    def __call__(self, point: Vector) -> tuple[float, _Inner]:
        """Approximate deviance, and the integrand at its mode, where :attr:`u` is left."""
        tau, unit = point[self.place.tau], 2.0 * np.eye(len(self.u))
        found: list[_Inner] = []

        def look(u: Vector) -> tuple[float, Vector]:
            self.evaluations += 1
            found[:] = [self.inner(point, tau * u)]
            return found[0].solution.deviance + float(u @ u), tau * found[0].gradient + 2.0 * u

        end = minimise(
            look,
            self.u,
            first_hessian=lambda: tau**2 * found[0].hessian + unit,
            hessian=lambda: tau**2 * found[0].hessian + unit,
            tolerance=_INNER.tolerance,
            max_evaluations=_INNER.max_evaluations,
            radius=2.0 * math.sqrt(len(self.u)),
        )
        if not np.isfinite(end.value):
            return np.inf, found[0]
        look(end.x)
        self.u = end.x - np.linalg.solve(tau**2 * found[0].hessian + unit, end.gradient)
        value, _ = look(self.u)
        sign, log_det = np.linalg.slogdet(0.5 * (tau**2 * found[0].hessian + unit))
        return (value + float(log_det) if sign > 0 else np.inf), found[0]


def search_location_scale(
    design: Design, *, reml: bool, control: Control
) -> tuple[Search, Design, Dispersion]:
    """
    Find the distribution of the residual standard deviations, and everything else.

    Parameters
    ----------
    design : Design
        With a ``scale`` that has a random term.
    reml : bool
        Which criterion.
    control : Control
        When to stop.

    Returns
    -------
    search : Search
        Its theta is relative to sigma, the standard deviation where the columns are zero.
    design : Design
        With the weights at the modes of the scale's effects, and that sigma.
    dispersion : Dispersion
        The coefficients, the effects, and the approximate deviance.

    Raises
    ------
    EngineRefusal
        If there are too many rows and levels for it.

    References
    ----------
    .. [1] Hedeker, Mermelstein and Demirtas (2008), Biometrics 64:627.
    .. [2] Tierney and Kadane (1986), J. Am. Stat. Assoc. 81:82, equation 2.1.
    """
    scale = design.scale
    assert scale is not None
    assert scale.block is not None
    equal = stratify(design, np.zeros(len(design.y), dtype=np.intp)).plain
    plain = inner_search(design, equal, reml, control, None)
    start = solve_at(equal, equal.layout.lambdas(plain.theta), reml=reml)
    problem = _Laplace(design, scale, scale.block, start, reml=reml)
    x = np.zeros(problem.place.size)
    x[problem.place.theta] = _lifted(problem, plain.theta)
    x[problem.place.tau] = _START
    end = _descend(problem, x, control)
    if abs(end.x[problem.place.tau]) < _ZERO:
        x = end.x.copy()
        x[problem.place.tau] = 0.0
        value, _ = problem(x)
        end = replace(end, x=x, value=value)
    return _finished(problem, end)


def _lifted(problem: _Laplace, theta: Vector) -> Vector:
    """Theta in the frames, its diagonal off zero."""
    layout = problem.whole.layout
    made = []
    for lam, frame in zip(layout.lambdas(theta), problem.whole.frames, strict=True):
        framed = _triangular(np.asarray(np.linalg.solve(frame, lam)))
        framed = framed * np.where(np.diag(framed) < 0.0, -1.0, 1.0)
        at = np.diag_indices_from(framed)
        framed[at] = np.maximum(framed[at], _LIFT)
        made.append(framed)
    return layout.pack(made)


def _descend(problem: _Laplace, x: Vector, control: Control) -> Minimum:
    def function(point: Vector) -> tuple[float, Vector]:
        try:
            value, _ = problem(point)
            return value, _slope(problem, point)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(point)

    def first() -> Matrix:
        values, vectors = np.linalg.eigh(_hessian(problem, x))
        raised = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        return np.asarray((vectors * raised) @ vectors.T)

    return minimise(
        function,
        x,
        first_hessian=first,
        tolerance=max(control.tolerance, 1e-9),
        max_evaluations=control.max_evaluations,
    )


def _slope(problem: _Laplace, point: Vector) -> Vector:
    out = np.empty_like(point)
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _STEP
        out[j] = (problem(point + step)[0] - problem(point - step)[0]) / (2.0 * _STEP)
    return out


def _hessian(problem: _Laplace, point: Vector) -> Matrix:
    d = len(point)
    H = np.empty((d, d))
    for j in range(d):
        step = np.zeros(d)
        step[j] = _WIDE
        H[j] = (_slope(problem, point + step) - _slope(problem, point - step)) / (2.0 * _WIDE)
    return 0.5 * (H + H.T)


def _finished(problem: _Laplace, end: Minimum) -> tuple[Search, Design, Dispersion]:
    """Refer everything to sigma, and measure the curvature."""
    place, point = problem.place, end.x
    tau = abs(float(point[place.tau]))
    free = np.ones(place.size, dtype=bool)
    free[place.tau] = tau > 0.0
    value, here = problem(point)
    v = point[place.tau] * problem.u
    gradient, hessian = _slope(problem, point)[free], _hessian(problem, point)[np.ix_(free, free)]
    inverse = 2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    at = problem.coordinates
    log_mean = math.log(problem.plain.sigma) + float(point[place.level])
    gamma = at.gamma(log_mean, point[place.scale])
    of_scale = np.flatnonzero(free)
    scale_rows = [i for i, j in enumerate(of_scale) if place.level <= j < place.tau]
    cov = at.map @ inverse[np.ix_(scale_rows, scale_rows)] @ at.map.T
    tau_error = 0.0
    if tau > 0.0:
        row = int(np.flatnonzero(of_scale == place.tau)[0])
        tau_error = math.sqrt(max(inverse[row, row], 0.0))
    curved = np.linalg.inv(np.eye(len(v)) + 0.5 * tau**2 * here.hessian)
    spread = Spread(tau, tau_error, v, tau * np.sqrt(np.diag(curved)))
    log_sigma = log_mean - float(at.centre @ at.change @ point[place.scale])
    sigma = math.exp(log_sigma)
    sds = np.exp(problem.logs(point)[problem.codes] + v[problem.block.codes])
    w = (sigma / sds) ** 2
    if problem.design.weights is not None:
        w = w * problem.design.weights
    layout = problem.whole.layout
    absolute = [_triangular(lam) for lam in problem.lambdas(point)]
    theta = rectify(layout, layout.pack([lam / sigma for lam in absolute]))
    beta = None if problem.reml else here.solution.beta
    # What is known of the fixed effects' covariance: the parameters', and the effects' given them.
    given = 2.0 * np.eye(len(v)) + tau**2 * here.hessian
    by_u = tau * _cov_slopes_by_effects(problem, point, v, here)
    found = Dispersion(
        problem.scale,
        gamma,
        np.asarray(cov),
        spread,
        value,
        np.append(gradient, point[place.tau] * here.gradient + 2.0 * problem.u),
        np.asarray(linalg.block_diag(hessian, given)),
        np.concatenate([_cov_slopes(problem, point)[free], by_u]),
        beta,
    )
    search = Search(
        theta=theta,
        engine="profiled",
        evaluations=problem.evaluations,
        converged=end.converged,
        message=f"another step would gain {end.decrease:.1e}",
        deviance=here.solution.deviance,
        trace=end.trace,
        remarks=_remarks(problem, tau),
    )
    return search, replace(problem.design, weights=w, sigma=sigma), found


def _remarks(problem: _Laplace, tau: float) -> tuple[str, ...]:
    if tau > 0.0:
        return ()
    return (
        f"the levels of '{problem.block.group}' show no differences in their residual standard "
        "deviation: that of its logarithm is estimated as zero.",
    )


def _cov_slopes(problem: _Laplace, point: Vector) -> Matrix:
    """Derivatives of the covariance of the fixed effects by all coordinates."""
    p = problem.whole.p
    out = np.empty((len(point), p, p))
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _WIDE
        ends: Sequence[Solution] = [problem(point + s)[1].solution for s in (step, -step)]
        out[j] = (ends[0].unscaled_cov - ends[1].unscaled_cov) / (2.0 * _WIDE)
    return out


def _cov_slopes_by_effects(problem: _Laplace, point: Vector, v: Vector, here: _Inner) -> Matrix:
    """
    Derivatives of the covariance ``Q`` of the fixed effects by the scale's, (levels, p, p).

    Of level ``g`` it is ``2 Q X'V^-1 R_g V^-1 X Q``.
    """
    cross, solution, p = here.cross, here.solution, here.cross.p
    codes = problem.block.codes
    w = np.exp(-2.0 * (problem.logs(point)[problem.codes] + v[codes]))
    if problem.design.weights is not None:
        w = w * problem.design.weights
    T = problem.columns
    through = solution.reduced.factor.solve(_border(cross))
    left = (T @ np.concatenate([-through, np.eye(p)])) @ solution.inner_cov  # V^-1 X Q, over w
    if cross.basis is not None:
        left = linalg.solve_triangular(cross.basis, left.T).T
    out = np.zeros((len(v), p, p))
    np.add.at(out, codes, 2.0 * w[:, None, None] * left[:, :, None] * left[:, None, :])
    return out


def _border(cross: CrossProducts) -> Matrix:
    """``Z'WX``, (q, p)."""
    B = np.zeros((cross.plan.size, cross.p))
    for f in cross.plan.gram.factors:
        B[cross.plan.columns(f)] = flatten(cross.border[f][:, : cross.p])
    return B


def _triangular(lam: Matrix) -> Matrix:
    """Lower triangular root of the same covariance."""
    return np.asarray(np.linalg.qr(lam.T, mode="r")).T
