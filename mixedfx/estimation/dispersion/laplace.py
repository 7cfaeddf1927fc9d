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
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionDesign
from mixedfx.design.random import RandomTermDesign
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.dispersion.hessian import Products, Roots, Sides, owners, products, roots
from mixedfx.estimation.dispersion.parametrization import DispersionCoordinates
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.prediction_variance import conditional_residuals
from mixedfx.likelihood.accumulate import centred_columns, sparse_Z
from mixedfx.likelihood.constrained import fix_coefficients
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.trust_region import minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# The inner search ends this near to its minimum; a last Newton step squares the distance, since
# the determinant is not stationary there and outer differences see its rounding.
_INNER = Control(tolerance=1e-10, max_evaluations=100)
# A matrix of so many columns at most is factorised at every step.
_MOST = 4000


@dataclass(frozen=True)
class Inner:
    """
    The integrand at one point, and its derivatives by ``v``.

    Parameters
    ----------
    cross : CrossProducts
        At the point's weights.
    solution : Solution
        What is integrated exactly.
    gradient : ndarray of shape (levels,)
        Of its deviance by ``v``.
    hessian : ndarray of shape (levels, levels)
        Second derivatives.
    products : Products
        What they were made of.
    """

    crossprod: CrossProducts
    solution: Solution
    gradient: Vector
    hessian: Matrix
    products: Products

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.gradient, self.hessian)


@dataclass(frozen=True)
class Place:
    """
    Where the outer coordinates stand.

    Parameters
    ----------
    theta : slice
        Roots of the covariances of the mean's effects, over the plain fit's sigma.
    level : int
        The mean log standard deviation, from the plain fit's.
    scale : slice
        Coordinates of the other columns of the log standard deviation.
    tau : int
        Standard deviation of ``v``; its sign means nothing.
    beta : slice
        Coefficients, from the plain fit's in standard errors; none under REML.
    size : int
        How many in all.
    """

    theta: slice
    level: int
    scale: slice
    tau: int
    beta: slice
    size: int

    @staticmethod
    def of(m: int, k: int, p: int) -> Place:
        """Lay them out for ``m`` thetas, ``k`` coordinates of the scale, ``p`` coefficients."""
        tau = m + 1 + k
        rest = slice(tau + 1, tau + 1 + p)
        return Place(slice(0, m), m, slice(m + 1, tau), tau, rest, tau + 1 + p)


class Laplace:
    """
    The approximate deviance as a function of everything that is not integrated out.

    Parameters
    ----------
    design : Design
        With prior weights or none.
    scale : Scale
        What the residual standard deviation depends on.
    random_term : RandomTermDesign
        Its random term.
    plain : Solution
        The fit with one residual standard deviation, from which units are taken.
    reml : bool
        Whether the coefficients are integrated out, or are coordinates.
    """

    def __init__(
        self,
        design: Design,
        scale: DispersionDesign,
        random_term: RandomTermDesign,
        plain: Solution,
        *,
        reml: bool,
    ) -> None:
        self.design, self.random_term, self.plain, self.reml = design, random_term, plain, reml
        self.scale = scale
        by_columns = scale.stratum_codes()
        self.coordinates = DispersionCoordinates.from_columns(scale.D, by_columns)
        L, n = len(random_term.levels), len(random_term.codes)
        keys, codes = np.unique(by_columns * L + random_term.codes, return_inverse=True)
        self.codes: Codes = np.asarray(codes.ravel(), dtype=np.intp)
        self.of_columns, self.of_level = np.divmod(keys, L)
        self.strata = sum_by_stratum(design, self.codes)
        self.whole = self.strata.plain
        k = self.coordinates.stratum_columns.shape[1]
        self.place = Place.of(self.whole.parametrization.size, k, 0 if reml else self.whole.p)
        self.counts = np.bincount(random_term.codes, minlength=L).astype(float)
        self.members = sparse.csr_array(
            (np.ones(n), (np.arange(n), random_term.codes)), shape=(n, L)
        )
        self.owner = owners(design, self.whole, random_term)
        self.u = np.zeros(L)
        self.evaluations = 0
        self._roots: tuple[bytes, Roots] | None = None

    @cached_property
    def columns(self) -> sparse.csr_array:
        """``T = [Z X]`` over the rows, columns of Z in the order of elimination."""
        Z = sparse_Z(self.design, self.whole)
        none = np.zeros((len(self.codes), 0))
        X = np.column_stack([none, *centred_columns(self.design)[0][:-1]])
        return sparse.csr_array(sparse.hstack([Z, sparse.csr_array(X)]))

    def logs(self, point: Vector) -> Vector:
        """Log standard deviation of each stratum without ``v``."""
        base = math.log(self.plain.sigma) + point[self.place.level]
        by_columns = self.coordinates.stratum_columns @ point[self.place.scale]
        return np.asarray(base + by_columns[self.of_columns])

    def lambdas(self, point: Vector) -> list[Matrix]:
        """Roots of the absolute covariances of the random effects."""
        made = self.whole.parametrization.lambdas(point[self.place.theta])
        return [
            self.plain.sigma * (f @ m) for f, m in zip(self.whole.term_scaling, made, strict=True)
        ]

    def beta(self, point: Vector) -> Vector:
        """Coefficients, where they are coordinates: in standard errors from the plain fit."""
        errors = self.plain.sigma * np.sqrt(np.diag(self.plain.vcov_unscaled))
        return np.asarray(self.plain.beta + errors * point[self.place.beta])

    def roots(self, logs: Vector) -> Roots:
        """Roots of ``T_g'W T_g`` at the levels' common standard deviation."""
        relative = logs - logs[0]
        key = relative.tobytes()
        if self._roots is None or self._roots[0] != key:
            self._roots = key, self._new_roots(relative)
        return self._roots[1]

    def _new_roots(self, logs: Vector) -> Roots:
        w = np.exp(-logs[self.codes])
        if self.design.weights is not None:
            w = w * np.sqrt(self.design.weights)
        T = sparse.csr_array(self.columns.multiply(w[:, None]))
        found = roots(T, self.random_term.codes, len(self.counts))
        size = len(self.counts) + (len(found.owner) if self.owner is None else 0)
        if size > _MOST:
            raise EngineRefusal(
                f"a random term in dispersion= needs a matrix of {size} columns here, and at most "
                f"{_MOST} are supported: take fewer rows or levels."
            )
        return found

    def weights(self, point: Vector, v: Vector) -> Vector:
        """One over each row's residual variance."""
        logs = self.logs(point)[self.codes] + v[self.random_term.codes]
        return self.design.combined_weights(np.exp(-2.0 * logs))

    def inner(self, point: Vector, v: Vector) -> Inner:
        """Deviance given ``v``, with its derivatives by it."""
        logs, w = self.logs(point), self.weights(point, v)
        crossprod = self.strata.reweight(np.exp(-2.0 * (logs + v[self.of_level])))
        crossprod = replace(crossprod, sigma=1.0)
        solution = solve_pls_at_factors(crossprod, self.lambdas(point), reml=self.reml)
        if not self.reml:
            solution = fix_coefficients(solution, self.beta(point))
        rest = conditional_residuals(self.design, solution)
        left: Vector = np.bincount(self.random_term.codes, w * rest**2, len(v)).astype(float)
        forms = self.columns.T @ (sparse.diags_array(w * rest) @ self.members)
        scaled = self.roots(logs).scaled(np.exp(-logs[0] - v))
        sides = Sides(crossprod, solution, scaled, sparse.csc_array(forms), self.reml)
        found = products(sides, self.owner)
        free = self.counts - found.hats
        hessian = -4.0 * found.squares - 8.0 * found.crossed
        diagonal = 4.0 * (left + free) - 4.0 * (self.counts - 2.0 * found.hats)
        hessian[np.diag_indices_from(hessian)] += diagonal
        symmetric = 0.5 * (hessian + hessian.T)
        return Inner(crossprod, solution, 2.0 * (free - left), symmetric, found)

    def __call__(self, point: Vector) -> tuple[float, Inner]:
        """Approximate deviance, and the integrand at its mode, where ``u`` is left."""
        tau, unit = point[self.place.tau], 2.0 * np.eye(len(self.u))
        found: list[tuple[Vector, Inner]] = []

        def look(u: Vector) -> tuple[float, Vector]:
            if not found or found[0][0] is not u:
                self.evaluations += 1
                found[:] = [(u, self.inner(point, tau * u))]
            here = found[0][1]
            return here.solution.deviance + float(u @ u), tau * here.gradient + 2.0 * u

        def curved() -> Matrix:
            return np.asarray(tau**2 * found[0][1].hessian + unit)

        end = minimize(
            look,
            self.u,
            initial_hessian=curved,
            hessian=curved,
            tolerance=_INNER.tolerance,
            max_evaluations=_INNER.max_evaluations,
            radius=2.0 * math.sqrt(len(self.u)),
        )
        if not np.isfinite(end.value):
            return np.inf, found[0][1]
        look(end.x)
        self.u = end.x - np.linalg.solve(curved(), end.gradient)
        value, _ = look(self.u)
        sign, log_det = np.linalg.slogdet(0.5 * curved())
        return (value + float(log_det) if sign > 0 else np.inf), found[0][1]

    def beta_slopes(self, here: Inner) -> Matrix:
        """Derivatives of the coefficients that are best given ``v`` by ``v``, (p, levels)."""
        moved = -2.0 * here.solution.vcov_in_basis @ here.products.tilts
        if here.crossprod.qr_R is None:
            return np.asarray(moved)
        return np.asarray(linalg.solve_triangular(here.crossprod.qr_R, moved))

    def cov_slopes(self, point: Vector, v: Vector, here: Inner) -> Matrix:
        """
        Derivatives of the covariance ``Q`` of the coefficients by ``v``, (levels, p, p).

        Of level ``g`` it is ``2 Q X'V^-1 R_g V^-1 X Q``.
        """
        crossprod, solution, p = here.crossprod, here.solution, here.crossprod.p
        w, through = self.weights(point, v), solution.schur.numeric.solve(crossprod.ZtX)
        # V^-1 X Q, over the weights
        left = (self.columns @ np.concatenate([-through, np.eye(p)])) @ solution.vcov_in_basis
        if crossprod.qr_R is not None:
            left = linalg.solve_triangular(crossprod.qr_R, left.T).T
        out = np.zeros((len(v), p, p))
        np.add.at(
            out, self.random_term.codes, 2.0 * w[:, None, None] * left[:, :, None] * left[:, None]
        )
        return out
