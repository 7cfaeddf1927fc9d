"""Notes on a fit for its user: rows and columns dropped, boundary, convergence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixedfx._warnings import warn_caller
from mixedfx.design import cells as design_cells
from mixedfx.design.build import Design
from mixedfx.errors import (
    ConvergenceWarning,
    DroppedColumnsWarning,
    MixedfxWarning,
    SingularFitWarning,
)
from mixedfx.estimation import saturation
from mixedfx.estimation.convergence import ConvergenceDiagnostics
from mixedfx.estimation.data_notes import notes_on_data
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.priors.specification import Priors

if TYPE_CHECKING:
    from mixedfx.estimation.residual_ends import EndsOfResiduals
    from mixedfx.likelihood.pls import Solution


@dataclass(frozen=True)
class Note:
    """A statement about a fit, kept with it and possibly warned of."""

    text: str
    warning: type[MixedfxWarning] | None = None  # category it is warned with; None: kept only


def warn_of(notes: Iterable[Note]) -> None:
    """Warn of those that have a category, at the caller's line."""
    for note in notes:
        if note.warning is not None:
            warn_caller(note.text, note.warning)


def notes_on_fit(
    design: Design,
    optimizer_result: OptimizerResult,
    priors: Priors,
    certificate: ConvergenceDiagnostics,
    ends: EndsOfResiduals,
    solution: Solution,
) -> tuple[Note, ...]:
    """All notes on a fit, in the order in which they are reported."""
    of_effects = tuple(name for name in certificate.boundary if name not in ends.names)
    return (
        *(Note(*note) for note in notes_on_data(design)),
        *_dropped_columns(design),
        *_singular(of_effects, priors, converged=optimizer_result.converged),
        *_residuals_at_ends(ends),
        *_not_converged(certificate, optimizer_result, design, solution),
        *(Note(remark) for remark in optimizer_result.remarks),
    )


def _dropped_columns(design: Design) -> list[Note]:
    dropped_names = design.spec.dropped_names
    if not dropped_names:
        return []
    text = (
        "fixed columns that depend on the others were left out: "
        f"{', '.join(dropped_names)}. Their coefficients are NaN.{_cells_without_data(design)}"
    )
    return [Note(text, DroppedColumnsWarning)]


def _cells_without_data(design: Design) -> str:
    """Factors nested in others, or the cells without rows: why columns are dependent."""
    info, variables = design.spec.fixed_info, design.rows.sample.variables
    if info is None or not variables:  # a refit, whose notes nobody reads
        return ""
    factors = {f.name() for f, learned in info.factor_infos.items() if learned.type != "numerical"}
    columns = {name: variables[name] for name in variables if name in factors}
    nested = design_cells.nested_pairs(columns)
    if nested:
        pairs = (f"{inner} is nested in {', '.join(around)}" for inner, around in nested.items())
        return f" {'; '.join(pairs)}: marginal means are averaged over the cells that occur."
    cells = design_cells.empty_cells(info, variables)
    if not cells:
        return ""
    listed = design_cells.list_cells(cells)
    return (
        f" These cells are without data: {listed}. Means and predictions there are not "
        "estimable, and an F test of a term is of what the other cells tell."
    )


def _singular(boundary: tuple[str, ...], priors: Priors, *, converged: bool) -> list[Note]:
    if not boundary or priors.fixes_zero_sd:
        return []
    where = (
        f"{', '.join(boundary)} {'is' if len(boundary) == 1 else 'are'} on the boundary (a "
        "variance of zero or a correlation of one)."
    )
    if priors.specified:
        text = (
            f"singular mode: {where} The posterior's mode is there all the same. {priors.advice}; "
            "a prior that is zero at zero, Gamma(2, ...), avoids it."
        )
        return [Note(text, SingularFitWarning)]
    all_the_same = "; the estimates are the optimum all the same" if converged else ""
    text = (
        f"singular fit: {where} The data do not support every random effect{all_the_same}. A "
        "simpler model leaves a term out, or its correlations with "
        "'||'; fit.rank_pca() and fit.ranova() help to choose."
    )
    return [Note(text, SingularFitWarning)]


def _residuals_at_ends(ends: EndsOfResiduals) -> list[Note]:
    """Parameters of correlated residuals at an end, and covariances that are nearly singular."""
    found = []
    if ends.names:
        verb = "is" if len(ends.names) == 1 else "are"
        text = (
            f"{', '.join(ends.names)} of the residuals {verb} on the boundary: a correlation "
            "that vanishes, or never does, or is as large as it can be. A structure with fewer "
            "parameters fits as well."
        )
        found.append(Note(text, SingularFitWarning))
    if ends.singular:
        text = (
            "the covariance of a subject's residuals is nearly singular at the estimates, where "
            "the likelihood can grow without bound: the rows do not determine so many parameters. "
            "Take a structure with fewer, or fewer fixed effects."
        )
        found.append(Note(text, ConvergenceWarning))
    return found


def _not_converged(
    certificate: ConvergenceDiagnostics,
    result: OptimizerResult,
    design: Design,
    solution: Solution,
) -> list[Note]:
    """Why a fit is not known to be at an optimum, and what to do."""
    if result.converged:
        return []
    if reason := saturation.vanishing_residuals(design, solution):
        return [Note(f"the search did not converge: {reason}", ConvergenceWarning)]
    reasons = list(certificate.failures)
    if result.refuses or result.limit_reached or not reasons:
        reasons.append(result.message)
    advice = " Other start= values may lead to the optimum."
    if certificate.only_flat:
        advice = (
            " Others fit as well, and no start= changes that: take a structure with fewer "
            "parameters, or leave a term or a column of it out."
        )
    if certificate.rounding > certificate.tolerance / 2.0:
        advice = " Make weights or residual standard deviations more even."
    if result.limit_reached:
        advice = (
            " The limit on evaluations was reached: give it more, by "
            f"control=Control(max_evaluations={10 * result.evaluations})."
        )
    if certificate.no_maximum:
        advice = (
            " No start= leads to a maximum: take a structure with fewer parameters, such as "
            "residual='cs(...)', of coordinates 'exp(...)', or leave residual= out."
        )
    text = f"the search did not converge: {'; '.join(reasons)}.{advice}"
    return [Note(text, ConvergenceWarning)]
