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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import ModesNotFound
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.laplace import MarginalGradient, mean_shift
from mixedfx.likelihood.generalized.pirls import Modes, find_modes
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS, Quadrature
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right

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


def can_sample(rows: RowsModel) -> bool:
    """Whether the factor with most levels has few enough effects, all independent."""
    if any(basis is not None for basis in rows.level_bases):
        return False
    return bool(rows.groups) and rows.effect_shapes[_largest(rows)][0] <= MAX_COLUMNS


def importance_sample(
    modes: Modes, beta: Vector, n_pairs: int, rng: np.random.Generator
) -> ImportanceSample:
    """Draw pairs about the modes; by parameters as they stand in ``MarginalGradient``."""
    sampler = _Sampler.at(modes, beta)
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


def _largest(rows: RowsModel) -> int:
    return int(np.argmax([L for _, L in rows.effect_shapes]))


@dataclass(frozen=True)
class _Sampler:
    """The modes, and what the conditional integrals share."""

    modes: Modes
    first: int  # factor whose effects are integrated
    others: tuple[int, ...]
    alone: RowsModel  # rows with that factor only, the others' effects being coefficients
    beta: Vector  # (p,) coefficients of the basis at the modes
    conditional_inverse: Matrix  # (K, K, L) of the first factor's blocks of H
    log_det_S: float
    centre: tuple[Matrix, ...]  # (K, L) of each factor: the shifted modes
    by_params: Matrix  # (d, m) derivatives of the modes of the others by all parameters

    @staticmethod
    def at(modes: Modes, beta: Vector) -> _Sampler:
        """Prepare the sampler at the modes."""
        rows = modes.model
        first = _largest(rows)
        lam, width = modes.lambdas[first], rows.effect_shapes[first][0]
        A = modes.numeric.assembled.diagonal[first]
        H = matmul_left(lam.T, matmul_right(A, lam))
        H[np.arange(width), np.arange(width)] += 1.0
        by_level = np.moveaxis(H, 2, 0)
        log_det = float(np.linalg.slogdet(by_level)[1].sum())
        others = tuple(f for f in range(len(rows.groups)) if f != first)
        inverse = np.array(np.moveaxis(np.linalg.inv(by_level), 0, 2), dtype=np.float64)
        log_det_S = modes.numeric.log_det - log_det
        shift = mean_shift(modes)
        centre = tuple(u - 0.5 * s for u, s in zip(modes.u, shift, strict=True))
        by_params = _stacked(modes_jacobian(modes), others)
        alone = rows.given_others(first)
        return _Sampler(modes, first, others, alone, beta, inverse, log_det_S, centre, by_params)

    def draw(self, rng: np.random.Generator) -> list[Matrix]:
        """Deviation from the modes of all factors' effects, ``N(0, H^-1)``."""
        modes = self.modes

        def noise(at: EvaluatedRows) -> list[Matrix]:
            sd = np.sqrt(np.maximum(at.derivatives.weight, 0.0))
            return at.rows.sums(sd * rng.standard_normal(len(sd)))

        by_rows = modes.at.total(noise)
        prior = [rng.standard_normal(u.shape) for u in modes.u]
        # Lambda M^-1 (Lambda'Z'W^(1/2) e) by the factorisation, M^-1 e by its Woodbury form.
        first = _solve_spherical(modes, by_rows)
        second = _solve_identity(modes, prior)
        return [a + b for a, b in zip(first, second, strict=True)]

    def evaluate(self, deviation: Sequence[Matrix]) -> tuple[float, Vector, Vector]:
        """Log weight of the others' effects at a deviation, the gradient, and the controls."""
        modes = self.modes
        u = [self.centre[f] + deviation[f] for f in self.others]
        effects = [(modes.lambdas[f] @ v).ravel() for f, v in zip(self.others, u, strict=True)]
        fixed = self.alone.fixed_predictor(np.concatenate([self.beta, *effects]))
        lam = modes.lambdas[self.first]
        try:
            conditional = find_modes(self.alone, [lam], fixed, modes.params, [modes.u[self.first]])
        except ModesNotFound:
            n_controls = sum(len(modes.lambdas[f]) ** 2 for f in self.others)
            return -np.inf, np.zeros(self._size), np.zeros(n_controls)
        nodes = _NODES[len(lam)]
        with np.errstate(all="ignore"):
            quadrature = Quadrature(conditional, nodes, with_gradient=True)
            loglik, gradient = -0.5 * quadrature.deviance, quadrature.gradient()
        penalty = 0.5 * float(sum(np.vdot(v, v) for v in u))
        log_weight = loglik - penalty + 0.5 * self._quadratic(deviation)
        return log_weight - 0.5 * self.log_det_S, *self._gradient(gradient, u)

    def _quadratic(self, deviation: Sequence[Matrix]) -> float:
        """``(u2 - u)'S(u2 - u)``, S the Schur complement of the first factor in H."""
        effects = {f: self.modes.lambdas[f] @ deviation[f] for f in self.others}

        def sums(at: EvaluatedRows) -> tuple[float, Matrix]:
            factors, w = at.rows.factors, at.derivatives.weight
            along = sum((factors[f].predictor(b) for f, b in effects.items()), np.zeros(len(w)))
            return float(w @ along**2), factors[self.first].sums(w * along)

        squares, of_first = self.modes.at.total(sums)
        total = float(sum(np.vdot(deviation[f], deviation[f]) for f in self.others)) + squares
        m = self.modes.lambdas[self.first].T @ of_first
        return total - float(np.vdot(m, matmul(self.conditional_inverse, m[:, None])[:, 0]))

    @property
    def _size(self) -> int:
        return int(self.by_params.shape[1])

    def _gradient(self, gradient: MarginalGradient, u: Sequence[Matrix]) -> tuple[Vector, Vector]:
        """By the entries of each factor's Lambda, beta and the family's; and the controls."""
        lambdas, p = self.modes.lambdas, len(self.beta)
        by_effects, at = [], p
        for v in u:
            by_effects.append(gradient.by_beta[at : at + v.size].reshape(v.shape))
            at += v.size
        by_lambda: list[Matrix] = [np.zeros(0)] * len(lambdas)
        by_lambda[self.first] = gradient.by_lambda[0]
        for f, by, v in zip(self.others, by_effects, u, strict=True):
            by_lambda[f] = by @ v.T
        parts = [by.ravel() for by in by_lambda]
        given_u = np.concatenate([*parts, gradient.by_beta[:p], gradient.by_family])
        of_others = zip(self.others, by_effects, u, strict=True)
        by_u = [lambdas[f].T @ by + 2.0 * v for f, by, v in of_others]
        controls = [
            (v.shape[1] * np.eye(len(v)) - 0.5 * by @ (v - self.centre[f]).T).ravel()
            for f, by, v in zip(self.others, by_u, u, strict=True)
        ]
        moved = given_u + np.concatenate([v.ravel() for v in by_u]) @ self.by_params
        return moved, np.concatenate(controls)


def marginal_gradient(rows: RowsModel, flat: Vector) -> MarginalGradient:
    """Gradient of which :class:`ImportanceSample` holds the entries in one vector."""
    by_lambda, at = [], 0
    for width, _ in rows.effect_shapes:
        by_lambda.append(flat[at : at + width**2].reshape(width, width))
        at += width**2
    return MarginalGradient(tuple(by_lambda), flat[at : at + rows.p], flat[at + rows.p :])


def modes_jacobian(modes: Modes) -> list[Matrix]:
    """
    Derivatives of each factor's modes by all parameters, (K, L, m).

    The parameters are the entries of each Lambda, beta, and the coordinates of the family's:
    ``M du = dLambda'Z'g + Lambda'Z'(dg/dphi dphi - W (X dbeta + Z dLambda u))``.
    """
    shapes = list(enumerate(modes.u))
    entries = [(f, a, b) for f, u in shapes for a in range(len(u)) for b in range(len(u))]

    def sums(at: EvaluatedRows) -> tuple[list[list[Matrix]], list[list[Matrix]]]:
        w, rows = at.derivatives.weight, at.rows
        of_entries = []
        for f, a, b in entries:
            effect = np.zeros_like(modes.u[f])
            effect[a] = modes.u[f][b]
            of_entries.append(rows.sums(-w * rows.factors[f].predictor(effect)))
        return of_entries, [rows.sums(-w * rows.X[:, j]) for j in range(rows.p)]

    of_entries, of_columns = modes.at.total(sums)
    columns: list[list[Matrix]] = []
    for (f, a, b), moved in zip(entries, of_entries, strict=True):
        direct = [np.zeros_like(u) for u in modes.u]
        direct[f][b] = modes.Ztg[f][a]
        solved = _solve_identity(modes, direct)
        columns.append([x + y for x, y in zip(_solve_spherical(modes, moved), solved, strict=True)])
    further = of_columns + (modes.at.scores_by_params() if len(modes.params) else [])
    columns += [_solve_spherical(modes, of_one) for of_one in further]
    return [np.stack([c[f] for c in columns], axis=2) for f, _ in shapes]


def _stacked(jacobian: Sequence[Matrix], factors: Sequence[int]) -> Matrix:
    """Jacobians of some factors as one matrix, (d, m)."""
    return np.concatenate([jacobian[f].reshape(-1, jacobian[f].shape[2]) for f in factors])


def _solve_spherical(modes: Modes, rhs: Sequence[Matrix]) -> list[Matrix]:
    """``M^-1 Lambda'v`` of each factor, (K, L)."""
    schur = modes.numeric.schur_complement([v[:, None] for v in rhs], np.zeros((1, 1)))
    return schur.back_substitute(np.ones(1))[1]


def _solve_identity(modes: Modes, v: Sequence[Matrix]) -> list[Matrix]:
    """``M^-1 v = v - M^-1 Lambda'(Z'WZ Lambda v)`` of each factor, (K, L)."""
    scaled = [lam @ x for lam, x in zip(modes.lambdas, v, strict=True)]

    def along(at: EvaluatedRows) -> list[Matrix]:
        return at.rows.sums(at.derivatives.weight * at.rows.random_predictor(scaled))

    change = _solve_spherical(modes, modes.at.total(along))
    return [x - c for x, c in zip(v, change, strict=True)]
