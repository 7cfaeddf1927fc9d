"""Laplace's deviance with the coefficients at the mode of the penalised likelihood: ``nagq=0``.

Beta and u together maximise ``sum l - u'u/2``; the deviance there is a function of the covariances
and the family's parameters alone, as in the first stage of lme4's ``glmer``. Newton steps for beta
take the score ``X'g`` and the information ``C = X'V^-1 X`` of the working model. With
``r = X C^-1 dd/dbeta`` and ``s = H^-1 A'W r``, the gradient gains by the move of beta

    dd/dLambda:  -[Z'W(r - As)] u' - (Z'g) s'            dd/dphi:  (r - As)' dg/dphi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import ModesNotFound
from mixedfx.likelihood.generalized.laplace import MarginalGradient, solve_effects
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalEvaluation,
    Point,
)
from mixedfx.likelihood.generalized.pirls import Modes, find_modes

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_MAX_ITERATIONS = 50
_MAX_HALVINGS = 30
# Newton decrement at which beta is at the mode.
_TOLERANCE = 1e-18


def working_information(modes: Modes) -> Matrix:
    """``X'V^-1 X`` of the working linear model in the basis of X, (p, p)."""
    ZtWX, XtWX = modes.at.information()
    return np.asarray(modes.numeric.schur_complement(ZtWX, XtWX).matrix)


@dataclass(frozen=True)
class ProfiledEvaluation(MarginalEvaluation):
    """Deviance at the coefficients of the mode."""

    @cached_property
    def gradient(self) -> MarginalGradient:
        """Gradient by the covariances and family parameters, beta moving with them."""
        plain, modes, rows = super().gradient, self.modes, self.modes.rows
        along = rows.X @ _by_information(modes, plain.by_beta)
        weight = modes.at_rows.weight
        As = rows.random_predictor(solve_effects(modes, rows.sums(weight * along)))
        Zt_change = rows.sums(weight * (along - As))
        by_lambda = []
        terms = zip(plain.by_lambda, modes.lambdas, modes.u, modes.Ztg, Zt_change, strict=True)
        for by, lam, u, Ztg, change in terms:
            by_lambda.append(by - change @ u.T - Ztg @ (lam.T @ change).T)
        by_params = plain.by_family
        if len(modes.params):
            of_rows = rows.by_params(modes.eta, modes.params)
            by_params = by_params + of_rows.first @ (along - As)
        return replace(
            plain,
            by_lambda=tuple(by_lambda),
            by_beta=np.zeros(0),
            by_family=by_params,
        )


@dataclass(frozen=True)
class ProfiledLikelihood(GeneralizedLikelihood):
    """Laplace's approximation at the mode of beta and u together."""

    @property
    def p(self) -> int:
        """No coefficient is searched."""
        return 0

    def at(self, point: Point, start: Sequence[Matrix] | None = None) -> MarginalEvaluation:
        """Evaluate at covariances and family parameters, beta from the given one."""
        rows = self.rows
        params = rows.family.natural(point.family_coordinates)
        lambdas = rows.by_group(point.factors)
        beta = point.beta
        modes = find_modes(rows, lambdas, rows.fixed_predictor(beta), params, start)
        for _ in range(_MAX_ITERATIONS if rows.p else 0):
            step, decrement = _newton_step(modes)
            if decrement < _TOLERANCE * (1.0 + abs(modes.penalized_loglik)):
                break
            beta, modes = _damped(modes, beta, step)
        return ProfiledEvaluation(replace(point, beta=beta), modes, self.nagq)


def _by_information(modes: Modes, vector: Vector) -> Vector:
    """Solution by the information; the shortest where separation makes it singular."""
    return np.asarray(np.linalg.lstsq(working_information(modes), vector, rcond=1e-13)[0])


def _newton_step(modes: Modes) -> tuple[Vector, float]:
    """Step of beta to the mode, and its Newton decrement."""
    score = modes.at.Xtg
    step = _by_information(modes, score)
    return step, float(score @ step)


def _damped(modes: Modes, beta: Vector, step: Vector) -> tuple[Vector, Modes]:
    """The longest of the steps 1, 1/2, ... that does not lower the penalised likelihood."""
    rows, before, share = modes.rows, modes.penalized_loglik, 1.0
    for _ in range(_MAX_HALVINGS):
        moved = beta + share * step
        try:
            found = find_modes(
                rows, modes.lambdas, rows.fixed_predictor(moved), modes.params, modes.u
            )
        except ModesNotFound:
            share *= 0.5
            continue
        if found.penalized_loglik >= before - 1e-12 * (1.0 + abs(before)):
            return moved, found
        share *= 0.5
    raise ModesNotFound("no step of the coefficients raises the penalised likelihood")
