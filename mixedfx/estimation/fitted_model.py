"""A search's end to a fit: everything at its theta, its claim checked, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import (
    ArgumentError,
    ConvergenceWarning,
    DroppedColumnsWarning,
    EngineDisagreement,
    SingularFitWarning,
)
from mixedfx.estimation.convergence import ConvergenceDiagnostics, diagnose_convergence
from mixedfx.estimation.curvature import HessianAtOptimum, boundary_parameters, hessian_at_optimum
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.optimizer_result import Note, OptimizerResult
from mixedfx.formula.terms import Formula
from mixedfx.likelihood.constrained import (
    add_coefficient_covariance,
    fix_coefficients,
    update_with_normal_prior,
)
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FittedModel:
    """
    A fitted model, before it is named.

    Parameters
    ----------
    formula : Formula
        As parsed.
    design : Design
        The data as arrays.
    cross : CrossProducts
        The data, reduced.
    reml : bool
        Which criterion.
    search : Search
        How theta was found.
    solution : mixedfx.likelihood.Solution
        What it implies.
    notes : tuple of Note
        What the user should know.
    dispersion : Dispersion or None
        What was found of the residual standard deviations, where they differ.
    beliefs : Beliefs or None
        The priors, if there are any; the solution is then that of the posterior's mode.
    """

    formula: Formula
    design: Design
    crossprod: CrossProducts
    reml: bool
    optimizer_result: OptimizerResult
    solution: Solution
    notes: tuple[Note, ...]
    dispersion: DispersionEstimate | None = None
    priors: PriorSpecification | None = None

    @property
    def nu(self) -> float:
        """
        Rows that tell of sigma: less the fixed effects under REML and least squares.

        Infinite where sigma is known, or is one of the parameters that a search finds.
        """
        crossprod = self.crossprod
        if crossprod.sigma is not None:
            return np.inf
        plain = not self.design.blocks and self.dispersion is None
        return float(crossprod.n - crossprod.p if self.reml or plain else crossprod.n)

    @property
    def known_sds(self) -> bool:
        """Whether the residual standard deviations were given."""
        if self.priors is not None:
            return self.priors.known_residual_sd
        return self.crossprod.sigma is not None and self.dispersion is None

    @property
    def label(self) -> str:
        """The model in a line: its formula, and that of the dispersion."""
        if self.dispersion is not None:
            return f"{self.formula}; dispersion {self.dispersion.design.formula}"
        return f"{self.formula}; residual sds known" if self.known_sds else str(self.formula)

    @property
    def given(self) -> Design:
        """The design as it was given: without weights and sigma that were estimated."""
        sigma = self.design.sigma if self.known_sds else None
        return replace(self.design, weights=self.prior_weights, sigma=sigma)

    @property
    def deviance(self) -> float:
        """Deviance of the model: with random effects of the scale, integrated over them."""
        if self.dispersion is not None and self.dispersion.deviance is not None:
            return self.dispersion.deviance
        return self.solution.deviance

    @property
    def residual_sds(self) -> Vector:
        """Residual standard deviation of each row, of shape (n,)."""
        w = self.design.weights
        sds = np.full(self.crossprod.n, self.solution.sigma)
        return sds if w is None else sds / np.sqrt(w)

    @property
    def prior_weights(self) -> Vector | None:
        """Weights that were given, without those that a model of the dispersion found."""
        w = self.design.weights
        if self.dispersion is None or w is None:
            return w
        found = (self.solution.sigma / self.dispersion.fitted_sds) ** 2
        prior = w / found
        return None if np.abs(prior - 1.0).max() < 1e-12 else prior

    @property
    def residual_variance(self) -> float:
        """Residual variance: of weight one, or where they differ by model the mean over rows."""
        if self.dispersion is None and not self.known_sds:
            return self.solution.sigma**2
        return float(np.mean(self.residual_sds**2))

    @property
    def size(self) -> int:
        """Parameters: fixed effects, theta and those of the residual standard deviation."""
        known = self.known_sds
        of_scale = 1 if self.dispersion is None else self.dispersion.size
        return self.crossprod.p + self.crossprod.parametrization.size + (0 if known else of_scale)

    @cached_property
    def curvature(self) -> HessianAtOptimum:
        """Gradient and Hessian of the deviance at theta, computed when first asked for."""
        return hessian_at_optimum(self.crossprod, self.solution.theta, reml=self.reml)

    @cached_property
    def certificate(self) -> ConvergenceDiagnostics:
        """The proof of the optimum, computed when first asked for."""
        names = boundary_parameters(self.design, self.crossprod, self.solution.theta)
        at = self.priors or self.dispersion or self.curvature
        return diagnose_convergence(
            at.gradient, at.hessian, boundary=names, optimizer_result=self.optimizer_result
        )


def assemble(
    formula: Formula,
    design: Design,
    crossprod: CrossProducts,
    optimizer_result: OptimizerResult,
    *,
    reml: bool,
    dispersion: DispersionEstimate | None = None,
    priors: PriorSpecification | None = None,
) -> FittedModel:
    """Compute everything at the engine's theta, and check the engine's claim."""
    solution = solve_pls(crossprod, optimizer_result.theta, reml=reml)
    if priors is not None:
        solution = update_with_normal_prior(solution, priors.coef_mean, priors.coef_sd)
    elif not design.blocks and dispersion is None:
        solution, reml = _least_squares(crossprod), False
    if dispersion is not None and dispersion.beta is not None:
        solution = fix_coefficients(solution, dispersion.beta)
    if dispersion is not None and dispersion.vcov_correction is not None:
        solution = add_coefficient_covariance(solution, dispersion.vcov_correction)
    rounding = 1e-8 * (crossprod.n + abs(solution.deviance))
    if not abs(optimizer_result.deviance - solution.deviance) <= rounding:
        raise EngineDisagreement(
            optimizer_result.engine, -0.5 * optimizer_result.deviance, -0.5 * solution.deviance
        )
    notes = tuple(_notes(design, crossprod, optimizer_result, priors))
    fit = FittedModel(
        formula, design, crossprod, reml, optimizer_result, solution, notes, dispersion, priors
    )
    return fit if design.weights is None or fit.certificate.ok else _doubted(fit)


def _least_squares(crossprod: CrossProducts) -> Solution:
    """
    Solve without random terms as statsmodels and R's ``lm`` do.

    Sigma has the divisor n - p, while the log-likelihood is that of maximum likelihood.
    """
    none = np.zeros(0)
    found = solve_pls(crossprod, none, reml=False)
    return (
        found
        if crossprod.sigma is not None
        else replace(found, sigma=solve_pls(crossprod, none, reml=True).sigma)
    )


def expect_one_variance(fit: FittedModel, what: str, instead: str) -> None:
    """Refuse what is not defined where the residual standard deviations are estimated apart."""
    if fit.dispersion is not None:
        raise ArgumentError(
            f"{what} takes one residual variance, and this fit has dispersion="
            f"'{fit.dispersion.design.formula}': {instead}."
        )


def expect_no_priors(fit: FittedModel, what: str) -> None:
    """Refuse what compares likelihoods, or repeats the fit, where there are priors."""
    if fit.priors is not None:
        raise ArgumentError(
            f"{what} asks the likelihood alone, and this fit has priors: fit.sample() draws from "
            "its posterior, and a fit without priors= has everything else."
        )


def _notes(
    design: Design,
    crossprod: CrossProducts,
    optimizer_result: OptimizerResult,
    priors: PriorSpecification | None,
) -> list[Note]:
    notes = []
    if design.dropped_rows:
        total = design.dropped_rows + crossprod.n
        notes.append(
            Note(f"{design.dropped_rows} of {total} rows have missing values and were left out.")
        )
    if design.dropped_columns:
        names = ", ".join(design.dropped_columns)
        notes.append(
            Note(
                f"fixed columns that depend on the others were left out: {names}. Their "
                "coefficients are NaN.",
                DroppedColumnsWarning,
            )
        )
    notes += _singular(boundary_parameters(design, crossprod, optimizer_result.theta), priors)
    if not optimizer_result.converged:
        advice = ""
        if optimizer_result.engine != "em" and any(len(b.effects) > 1 for b in design.blocks):
            advice = (
                " Random slopes by columns far from zero, such as years or dates, are the "
                "commonest reason: subtract their means."
            )
        text = f"the search did not converge: {optimizer_result.message}.{advice}"
        notes.append(Note(text, ConvergenceWarning))
    return notes + [Note(r) for r in optimizer_result.remarks]


def _doubted(fit: FittedModel) -> FittedModel:
    """
    Take back the claim of convergence where the proof of the optimum fails.

    Only weighted fits pay for the proof at once: very uneven weights are what searches, whose
    units are root mean squares of weighted columns, have been seen to fail on.
    """
    text = (
        f"{fit.certificate}: the search ended where the deviance is not at its lowest. Very uneven "
        "weights or residual standard deviations are the commonest reason: try start= values."
    )
    notes = fit.notes
    if not any(note.warning is ConvergenceWarning for note in notes):
        notes = (*notes, Note(text, ConvergenceWarning))
    return replace(
        fit, optimizer_result=replace(fit.optimizer_result, converged=False), notes=notes
    )


def _singular(names: tuple[str, ...], priors: PriorSpecification | None) -> list[Note]:
    """Say what is on the boundary, and what can be done about it."""
    if not names or (priors is not None and priors.fixes_zero_sd):
        return []
    where = (
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} on the boundary (a variance of "
        "zero or a correlation of one)."
    )
    if priors is not None:
        text = (
            f"singular mode: {where} The posterior's mode is there all the same; fit.sample() "
            "shows how far the posterior reaches, and a prior that is zero at zero, Gamma(2, ...), "
            "avoids it."
        )
        return [Note(text, SingularFitWarning)]
    text = (
        f"singular fit: {where} The data do not support every random effect; the estimates are "
        "the optimum all the same. A simpler model leaves a term out, or its correlations with "
        "'||'; fit.rank_pca() and fit.ranova() help to choose."
    )
    return [Note(text, SingularFitWarning)]
