"""Importance sampling of the marginal likelihood of a generalised model about its modes.

The effects of the factor with most levels, of which each row has one level, are independent given
all others: they are integrated by adaptive quadrature, and only the others, ``u2``, are drawn. Near
the modes the integrand is nearly normal, with the precision S of the marginal of ``u2`` in
``N(u, H^-1)``, and the mean m that its skewness shifts from the modes:

    log w = log L(y | u2) - u2'u2 / 2 + (u2 - m)'S(u2 - m) / 2 - log|S| / 2

is averaged, ``L = mean w`` (Geweke 1989, Econometrica 57:1317; Rao-Blackwellised). Draws come in
pairs on both sides of m, which cancels the odd terms of log w. The gradient is that of each
conditional log-likelihood, averaged by w (Fisher's identity), with ``u2`` moving as its mode does:
as the score by ``u2`` averages to zero, that leaves the mean and takes most of the variance. What
is left of it is nearly linear in ``tr(I) + (u2 - m)'s``, s the score, whose mean is zero too
(Stein's identity): its regression on these is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import ModesNotFound
from mixedfx.likelihood.generalized.laplace import MarginalGradient, mean_shift
from mixedfx.likelihood.generalized.pirls import Modes, find_modes
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS, Quadrature
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockPattern

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Nodes of the conditional quadrature, by the number of its effects.
_NODES = {1: 7, 2: 5, 3: 3}


@dataclass(frozen=True)
class ImportanceSample:
    """Draws about the modes: log weights, and gradients of the deviance by all parameters."""

    log_weights: Vector  # (pairs, 2), so that their mean's logarithm is the log-likelihood
    gradients: Matrix  # (pairs, 2, m)
    controls: Matrix  # (pairs, 2, c) functions of the draws whose mean by the weights is zero

    @property
    def _relative(self) -> Matrix:
        return np.asarray(np.exp(self.log_weights - self.log_weights.max()))

    @property
    def loglik(self) -> float:
        """Logarithm of the mean weight."""
        return float(np.log(self._relative.mean()) + self.log_weights.max())

    @property
    def effective(self) -> float:
        """Effective number of draws, ``(sum w)^2 / sum w^2``."""
        w = self._relative
        return float(w.sum() ** 2 / (w**2).sum())

    @property
    def loglik_error(self) -> float:
        """Monte Carlo standard error of the log-likelihood, from the pairs."""
        w = self._relative.mean(axis=1)
        return float(w.std(ddof=1) / np.sqrt(len(w)) / w.mean())

    @property
    def gradient(self) -> Vector:
        """Gradient of the deviance, (m,)."""
        w = self._relative
        return np.asarray((w[:, :, None] * self._controlled).sum(axis=(0, 1)) / w.sum())

    @cached_property
    def _controlled(self) -> Matrix:
        """Gradients less their regression on the controls, (pairs, 2, m)."""
        root = np.sqrt(self._relative).reshape(-1, 1)
        c = self.controls.shape[2]
        features = np.column_stack([np.ones_like(root), self.controls.reshape(-1, c)])
        gradients = self.gradients.reshape(len(root), -1)
        slopes = np.linalg.lstsq(root * features, root * gradients, rcond=None)[0][1:]
        return np.asarray(self.gradients - self.controls @ slopes)

    @property
    def gradient_covariance(self) -> Matrix:
        """Monte Carlo covariance of the gradient, (m, m), from the pairs."""
        w = self._relative
        deviations = (w[:, :, None] * (self._controlled - self.gradient)).sum(axis=1) / w.sum()
        return np.asarray(deviations.T @ deviations)


def can_sample(rows: GeneralizedRows) -> bool:
    """Whether the factor with most levels has few enough effects, all independent."""
    if any(factor.basis is not None for factor in rows.factors):
        return False
    return bool(rows.factors) and rows.factors[_largest(rows)].width <= MAX_COLUMNS


def importance_sample(modes: Modes, n_pairs: int, rng: np.random.Generator) -> ImportanceSample:
    """Draw pairs about the modes; by parameters as they stand in ``MarginalGradient``."""
    sampler = _Sampler.at(modes)
    log_weights, gradients, controls = [], [], []
    for _ in range(n_pairs):
        deviation = sampler.draw(rng)
        for sign in (1.0, -1.0):
            at = sampler.evaluate([sign * d for d in deviation])
            log_weights.append(at[0])
            gradients.append(at[1])
            controls.append(at[2])
    return ImportanceSample(
        np.array(log_weights).reshape(n_pairs, 2),
        np.array(gradients).reshape(n_pairs, 2, -1),
        np.array(controls).reshape(n_pairs, 2, -1),
    )


def _largest(rows: GeneralizedRows) -> int:
    return int(np.argmax([f.n_levels for f in rows.factors]))


@dataclass(frozen=True)
class _Sampler:
    """The modes, and what the conditional integrals share."""

    modes: Modes
    first: int  # factor whose effects are integrated
    others: tuple[int, ...]
    alone: GeneralizedRows  # rows with that factor only
    conditional_inverse: Matrix  # (K, K, L) of the first factor's blocks of H
    log_det_S: float
    centre: tuple[Matrix, ...]  # (K, L) of each factor: the shifted modes
    by_params: Matrix  # (d, m) derivatives of the modes of the others by all parameters

    @staticmethod
    def at(modes: Modes) -> _Sampler:
        """Prepare the sampler at the modes."""
        rows = modes.rows
        first = _largest(rows)
        factor, lam = rows.factors[first], modes.lambdas[first]
        pattern = BlockPattern(BlockLayout((factor.width,), (factor.n_levels,)), {})
        alone = replace(rows, factors=(factor,), pairs={}, pattern=pattern)
        A = factor.blocks(modes.at_rows.weight)
        H = matmul_left(lam.T, matmul_right(A, lam))
        H[np.arange(factor.width), np.arange(factor.width)] += 1.0
        by_level = np.moveaxis(H, 2, 0)
        log_det = float(np.linalg.slogdet(by_level)[1].sum())
        others = tuple(f for f in range(len(rows.factors)) if f != first)
        inverse = np.array(np.moveaxis(np.linalg.inv(by_level), 0, 2), dtype=np.float64)
        log_det_S = modes.numeric.log_det - log_det
        shift = mean_shift(modes)
        centre = tuple(u - 0.5 * s for u, s in zip(modes.u, shift, strict=True))
        by_params = _stacked(modes_jacobian(modes), others)
        return _Sampler(modes, first, others, alone, inverse, log_det_S, centre, by_params)

    def draw(self, rng: np.random.Generator) -> list[Matrix]:
        """Deviation from the modes of all factors' effects, ``N(0, H^-1)``."""
        modes, rows = self.modes, self.modes.rows
        noise = np.sqrt(np.maximum(modes.at_rows.weight, 0.0)) * rng.standard_normal(len(rows.y))
        prior = [rng.standard_normal(u.shape) for u in modes.u]
        by_rows = rows.sums(noise)
        # Lambda M^-1 (Lambda'Z'W^(1/2) e) by the factorisation, M^-1 e by its Woodbury form.
        first = _solve_spherical(modes, by_rows)
        second = _solve_identity(modes, prior)
        return [a + b for a, b in zip(first, second, strict=True)]

    def evaluate(self, deviation: Sequence[Matrix]) -> tuple[float, Vector, Vector]:
        """Log weight of the others' effects at a deviation, the gradient, and the controls."""
        modes, rows = self.modes, self.modes.rows
        u = [self.centre[f] + deviation[f] for f in self.others]
        along = sum(
            (rows.factors[f].predictor(modes.lambdas[f] @ deviation[f]) for f in self.others),
            np.zeros(len(rows.y)),
        )
        fixed = modes.fixed + sum(
            (
                rows.factors[f].predictor(modes.lambdas[f] @ v)
                for f, v in zip(self.others, u, strict=True)
            ),
            np.zeros(len(rows.y)),
        )
        lam = modes.lambdas[self.first]
        try:
            conditional = find_modes(self.alone, [lam], fixed, modes.params, [modes.u[self.first]])
        except ModesNotFound:
            n_controls = sum(modes.rows.factors[f].width ** 2 for f in self.others)
            return -np.inf, np.zeros(self._size), np.zeros(n_controls)
        nodes = _NODES[self.alone.factors[0].width]
        with np.errstate(all="ignore"):
            quadrature = Quadrature(conditional, nodes, with_gradient=True)
            loglik, gradient = -0.5 * quadrature.deviance, quadrature.gradient()
        penalty = 0.5 * float(sum(np.vdot(v, v) for v in u))
        log_weight = loglik - penalty + 0.5 * self._quadratic(deviation, along)
        return log_weight - 0.5 * self.log_det_S, *self._gradient(gradient, u)

    def _quadratic(self, deviation: Sequence[Matrix], along: Vector) -> float:
        """``(u2 - u)'S(u2 - u)``, S the Schur complement of the first factor in H."""
        w = self.modes.at_rows.weight
        total = float(sum(np.vdot(deviation[f], deviation[f]) for f in self.others))
        total += float(w @ along**2)
        m = self.modes.lambdas[self.first].T @ self.alone.factors[0].sums(w * along)
        return total - float(np.vdot(m, matmul(self.conditional_inverse, m[:, None])[:, 0]))

    @property
    def _size(self) -> int:
        return int(self.by_params.shape[1])

    def _gradient(self, gradient: MarginalGradient, u: Sequence[Matrix]) -> tuple[Vector, Vector]:
        """By the entries of each factor's Lambda, beta and the family's; and the controls."""
        rows = self.modes.rows
        by_lambda: list[Matrix] = [np.zeros(0)] * len(rows.factors)
        by_lambda[self.first] = gradient.by_lambda[0]
        for f, v in zip(self.others, u, strict=True):
            by_lambda[f] = rows.factors[f].sums(gradient.by_eta) @ v.T
        parts = [by.ravel() for by in by_lambda]
        given_u = np.concatenate([*parts, gradient.by_beta, gradient.by_family])
        by_u = [
            self.modes.lambdas[f].T @ rows.factors[f].sums(gradient.by_eta) + 2.0 * v
            for f, v in zip(self.others, u, strict=True)
        ]
        controls = [
            (v.shape[1] * np.eye(len(v)) - 0.5 * by @ (v - self.centre[f]).T).ravel()
            for f, by, v in zip(self.others, by_u, u, strict=True)
        ]
        moved = given_u + np.concatenate([v.ravel() for v in by_u]) @ self.by_params
        return moved, np.concatenate(controls)


def marginal_gradient(rows: GeneralizedRows, flat: Vector) -> MarginalGradient:
    """Gradient of which :class:`ImportanceSample` holds the entries in one vector."""
    by_lambda, at = [], 0
    for factor in rows.factors:
        size = factor.width**2
        by_lambda.append(flat[at : at + size].reshape(factor.width, factor.width))
        at += size
    return MarginalGradient(tuple(by_lambda), flat[at : at + rows.p], flat[at + rows.p :])


def modes_jacobian(modes: Modes) -> list[Matrix]:
    """
    Derivatives of each factor's modes by all parameters, (K, L, m).

    The parameters are the entries of each Lambda, beta, and the coordinates of the family's:
    ``M du = dLambda'Z'g + Lambda'Z'(dg/dphi dphi - W (X dbeta + Z dLambda u))``.
    """
    rows, at = modes.rows, modes.at_rows
    columns: list[list[Matrix]] = []
    zero = [np.zeros_like(u) for u in modes.u]
    for f, factor in enumerate(rows.factors):
        for a in range(factor.width):
            for b in range(factor.width):
                direct, effect = list(zero), np.zeros_like(modes.u[f])
                direct[f] = np.zeros_like(modes.u[f])
                direct[f][b] = modes.Ztg[f][a]
                effect[a] = modes.u[f][b]
                moved = _solve_spherical(modes, rows.sums(-at.weight * factor.predictor(effect)))
                solved = _solve_identity(modes, direct)
                columns.append([x + y for x, y in zip(moved, solved, strict=True)])
    for j in range(rows.p):
        columns.append(_solve_spherical(modes, rows.sums(-at.weight * rows.X[:, j])))
    if len(modes.params):
        by = rows.by_params(modes.eta, modes.params)
        columns += [_solve_spherical(modes, rows.sums(first)) for first in by.first]
    return [np.stack([c[f] for c in columns], axis=2) for f in range(len(rows.factors))]


def _stacked(jacobian: Sequence[Matrix], factors: Sequence[int]) -> Matrix:
    """Jacobians of some factors as one matrix, (d, m)."""
    return np.concatenate([jacobian[f].reshape(-1, jacobian[f].shape[2]) for f in factors])


def _solve_spherical(modes: Modes, rhs: Sequence[Matrix]) -> list[Matrix]:
    """``M^-1 Lambda'v`` of each factor, (K, L)."""
    schur = modes.numeric.schur_complement([v[:, None] for v in rhs], np.zeros((1, 1)))
    return schur.back_substitute(np.ones(1))[1]


def _solve_identity(modes: Modes, v: Sequence[Matrix]) -> list[Matrix]:
    """``M^-1 v = v - M^-1 Lambda'(Z'WZ Lambda v)`` of each factor, (K, L)."""
    rows = modes.rows
    scaled = [lam @ x for lam, x in zip(modes.lambdas, v, strict=True)]
    along = modes.at_rows.weight * rows.random_predictor(scaled)
    change = _solve_spherical(modes, rows.sums(along))
    return [x - c for x, c in zip(v, change, strict=True)]
