"""A search's end to a fit: everything at its theta, its claim checked, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixedfx.beliefs import Beliefs
from mixedfx.criterion import Solution, believe, hold_all, solve, widen
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.dispersion import Dispersion
from mixedfx.errors import (
    ArgumentError,
    ConvergenceWarning,
    DroppedColumnsWarning,
    EngineDisagreement,
    SingularFitWarning,
)
from mixedfx.fit.certificate import Certificate, certify
from mixedfx.fit.search import Note, Search
from mixedfx.fit.surface import Curvature, boundary, curvature
from mixedfx.formula import Formula

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
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
    solution : mixedfx.criterion.Solution
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
    cross: CrossProducts
    reml: bool
    search: Search
    solution: Solution
    notes: tuple[Note, ...]
    dispersion: Dispersion | None = None
    beliefs: Beliefs | None = None

    @property
    def nu(self) -> float:
        """
        Rows that tell of sigma: less the fixed effects under REML and least squares.

        Infinite where sigma is known, or is one of the parameters that a search finds.
        """
        cross = self.cross
        if cross.sigma is not None:
            return np.inf
        plain = not self.design.blocks and self.dispersion is None
        return float(cross.n - cross.p if self.reml or plain else cross.n)

    @property
    def known_sds(self) -> bool:
        """Whether the residual standard deviations were given."""
        if self.beliefs is not None:
            return self.beliefs.known
        return self.cross.sigma is not None and self.dispersion is None

    @property
    def label(self) -> str:
        """The model in a line: its formula, and that of the dispersion."""
        if self.dispersion is not None:
            return f"{self.formula}; dispersion {self.dispersion.scale.formula}"
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
        sds = np.full(self.cross.n, self.solution.sigma)
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
        return self.cross.p + self.cross.layout.size + (0 if known else of_scale)

    @cached_property
    def curvature(self) -> Curvature:
        """Gradient and Hessian of the deviance at theta, computed when first asked for."""
        return curvature(self.cross, self.solution.theta, reml=self.reml)

    @cached_property
    def certificate(self) -> Certificate:
        """The proof of the optimum, computed when first asked for."""
        names = boundary(self.design, self.cross, self.solution.theta)
        at = self.beliefs or self.dispersion or self.curvature
        return certify(at.gradient, at.hessian, boundary=names, search=self.search)


def assemble(
    formula: Formula,
    design: Design,
    cross: CrossProducts,
    search: Search,
    *,
    reml: bool,
    dispersion: Dispersion | None = None,
    beliefs: Beliefs | None = None,
) -> Fit:
    """
    Compute everything at the engine's theta, and check the engine's claim.

    Parameters
    ----------
    formula : Formula
        As parsed.
    design : Design
        The data as arrays.
    cross : CrossProducts
        The data, reduced.
    search : Search
        The engine's end.
    reml : bool
        Which criterion.
    dispersion : Dispersion, optional
        What was found of the residual standard deviations; the design has their weights.
    beliefs : Beliefs, optional
        The priors; the design has the sigma of the mode.

    Returns
    -------
    Fit
        With its notes.

    Raises
    ------
    EngineDisagreement
        If the engine's log-likelihood differs from the criterion's beyond rounding.
    """
    solution = solve(cross, search.theta, reml=reml)
    if beliefs is not None:
        solution = believe(solution, beliefs.mean, beliefs.sd)
    elif not design.blocks and dispersion is None:
        solution, reml = _least_squares(cross), False
    if dispersion is not None and dispersion.beta is not None:
        solution = hold_all(solution, dispersion.beta)
    if dispersion is not None and dispersion.extra is not None:
        solution = widen(solution, dispersion.extra)
    rounding = 1e-8 * (cross.n + abs(solution.deviance))
    if not abs(search.deviance - solution.deviance) <= rounding:
        raise EngineDisagreement(search.engine, -0.5 * search.deviance, -0.5 * solution.deviance)
    notes = tuple(_notes(design, cross, search, beliefs))
    fit = Fit(formula, design, cross, reml, search, solution, notes, dispersion, beliefs)
    return fit if design.weights is None or fit.certificate.ok else _doubted(fit)


def _least_squares(cross: CrossProducts) -> Solution:
    """
    Solve without random terms as statsmodels and R's ``lm`` do.

    Sigma has the divisor n - p, while the log-likelihood is that of maximum likelihood.
    """
    none = np.zeros(0)
    found = solve(cross, none, reml=False)
    return (
        found
        if cross.sigma is not None
        else replace(found, sigma=solve(cross, none, reml=True).sigma)
    )


def expect_one_variance(fit: Fit, what: str, instead: str) -> None:
    """
    Refuse what is not defined where the residual standard deviations are estimated apart.

    Parameters
    ----------
    fit : Fit
        Any fit.
    what : str
        What was asked for.
    instead : str
        What to ask for.

    Raises
    ------
    ArgumentError
        If the fit has a dispersion formula.
    """
    if fit.dispersion is not None:
        raise ArgumentError(
            f"{what} takes one residual variance, and this fit has dispersion="
            f"'{fit.dispersion.scale.formula}': {instead}."
        )


def expect_no_priors(fit: Fit, what: str) -> None:
    """
    Refuse what compares likelihoods, or repeats the fit, where there are priors.

    Parameters
    ----------
    fit : Fit
        Any fit.
    what : str
        What was asked for.

    Raises
    ------
    ArgumentError
        If the fit has priors.
    """
    if fit.beliefs is not None:
        raise ArgumentError(
            f"{what} asks the likelihood alone, and this fit has priors: fit.sample() draws from "
            "its posterior, and a fit without priors= has everything else."
        )


def _notes(
    design: Design, cross: CrossProducts, search: Search, beliefs: Beliefs | None
) -> list[Note]:
    notes = []
    if design.dropped_rows:
        total = design.dropped_rows + cross.n
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
    notes += _singular(boundary(design, cross, search.theta), beliefs)
    if not search.converged:
        advice = ""
        if search.engine != "em" and any(len(b.effects) > 1 for b in design.blocks):
            advice = (
                " Random slopes by columns far from zero, such as years or dates, are the "
                "commonest reason: subtract their means."
            )
        text = f"the search did not converge: {search.message}.{advice}"
        notes.append(Note(text, ConvergenceWarning))
    return notes + [Note(r) for r in search.remarks]


def _doubted(fit: Fit) -> Fit:
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
    return replace(fit, search=replace(fit.search, converged=False), notes=notes)


def _singular(names: tuple[str, ...], beliefs: Beliefs | None) -> list[Note]:
    """Say what is on the boundary, and what can be done about it."""
    if not names or (beliefs is not None and beliefs.holds_a_zero):
        return []
    where = (
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} on the boundary (a variance of "
        "zero or a correlation of one)."
    )
    if beliefs is not None:
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
