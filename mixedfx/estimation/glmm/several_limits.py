"""Coefficients of several linear predictors that have no finite estimate.

Where the zeros of some rows are no more than the family has, the probability of a zero beside them
goes to 0 and its logit to minus infinity; where all are zeros, to 1. The deviance is then flat
along the coefficients that move there, and the linear predictor of those rows is far out (Albert
and Anderson 1984, Biometrika 71:1, of a binomial response).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import ConvergenceWarning
from mixedfx.estimation.glmm.exact_cells import ADVICE as ADVICE_OF_CELLS
from mixedfx.estimation.glmm.fit import Optimum
from mixedfx.estimation.glmm.working import basis_coefficients, own_coefficients
from mixedfx.estimation.notes import Note
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.several_predictors import SeveralRows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Curvature of the deviance by a coefficient of a column of unit root mean square, of a standard
# error of 45; and a logit that is far out.
_FLAT, _FAR = 1e-3, 7.0
# Curvature given to a coefficient without a finite estimate: its standard error is not zero.
_LEAST = 1e-7
# Share of the largest from which a coefficient, or a row, moves.
_MOVES = 0.1
# Share of the largest coefficient of a direction that is rounding.
_ROUNDING = 1e-2


def without_maximum(
    designs: Mapping[str, Design], rows: SeveralRows, found: Optimum
) -> tuple[Optimum, tuple[str, ...]]:
    """
    The optimum, and why the likelihood has no maximum.

    ``designs`` are those of all predictors, by argument. Along coefficients without a finite
    estimate the Hessian is rounding errors: its curvature there is set to nearly zero.
    """
    if not np.isfinite(found.hessian).all():
        return found, ()
    m, eta, hessian = found.covariance.size, found.evaluation.modes.eta, found.hessian
    statements: list[str] = []
    for k, (argument, design) in enumerate(designs.items()):
        own = slice(m + rows.slices[k].start, m + rows.slices[k].stop)
        values, vectors = np.linalg.eigh(found.hessian[own, own])
        for direction in vectors[:, values < _FLAT].T:
            said = _of_direction(argument, design, rows, k, direction, eta[k])
            if said is None:
                continue
            statements.append(said)
            along = np.zeros(len(hessian))
            along[own] = _exact(rows.parts[k], direction)
            others = np.eye(len(hessian)) - np.outer(along, along)
            hessian = others @ hessian @ others + _LEAST * np.outer(along, along)
    return replace(found, hessian=hessian), tuple(statements)


def _exact(part: GeneralizedRows, direction: Vector) -> Vector:
    """Direction without the rounding errors of coefficients that do not move."""
    own = own_coefficients(part, direction)
    own = np.where(np.abs(own) > _ROUNDING * np.abs(own).max(), own, 0.0)
    exact = basis_coefficients(part, own)
    return exact / float(np.linalg.norm(exact))


def _of_direction(
    argument: str, design: Design, rows: SeveralRows, k: int, direction: Vector, eta: Vector
) -> str | None:
    """What goes to infinity along a direction of the coefficients; None: nothing does."""
    part = rows.parts[k]
    moved = part.X @ direction
    moving = np.abs(moved) > _MOVES * np.abs(moved).max(initial=0.0)
    center = float(np.median(eta[moving]))
    if abs(center) < _FAR:
        return None
    if argument == "zero_inflation" and moving.all() and center < 0.0:
        return (
            "there are no more zeros than the family has by itself, so that the probability of a "
            "zero beside them goes to 0: leave zero_inflation= out"
        )
    coefficients = own_coefficients(part, direction)
    # In the direction in which the linear predictor has gone.
    coefficients = coefficients * np.sign(float(moved[moving].sum()) * center)
    large = np.abs(coefficients) > _MOVES * np.abs(coefficients).max()
    named = [
        f"{argument}({name}) goes to {'+' if value > 0.0 else '-'}infinity"
        for name, value, is_large in zip(design.spec.X_names, coefficients, large, strict=True)
        if is_large
    ]
    text = f"the coefficient {', '.join(named)}"
    if argument == "zero_inflation":
        text += (
            f", and with it the probability of a zero in {int(moving.sum()):,} rows to "
            f"{0 if center < 0.0 else 1}: leave the term out of zero_inflation="
        )
    elif argument == "dispersion":
        limit = "zero" if center < 0.0 else "infinity"
        text += (
            f", and with it {rows.density.family.dispersion_param} of {int(moving.sum()):,} rows "
            f"to {limit}: "
        )
        text += "leave dispersion= out" if moving.all() else ADVICE_OF_CELLS
    return text


def notes_of_parts(main: Sequence[Note], parts: Mapping[str, Sequence[Note]]) -> list[Note]:
    """Notes of the further predictors that the first one has not, with the argument before them."""
    known = {note.text for note in main}
    return [
        Note(f"{argument}: {note.text}", note.warning)
        for argument, notes in parts.items()
        for note in notes
        if note.warning not in (None, ConvergenceWarning) and note.text not in known
    ]
