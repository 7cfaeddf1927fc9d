"""A search's end to a fit: what theta implies, and the proof that it is the optimum.

An engine finds theta and claims a log-likelihood. Here the claim is computed again by the
one criterion, whatever the engine, and a disagreement beyond rounding is an error.

Nothing here knows how theta was found, or what the results will be called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.beliefs import Beliefs
from mixedfx.covariance import ZERO, Chart, pivoted
from mixedfx.criterion import Solution, believe, hold_all, slopes, solve, solve_at, widen
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.dispersion import Dispersion
from mixedfx.errors import (
    ArgumentError,
    ConvergenceWarning,
    DroppedColumnsWarning,
    EngineDisagreement,
    MixedfxWarning,
    SingularFitWarning,
)
from mixedfx.formula import Formula
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Control:
    """
    How long, and how closely, to search.

    Parameters
    ----------
    tolerance : float
        Stop when one more step would lower the deviance by less than this. At 1e-10 a
        standard deviation is within about 1e-6 of its optimum, relatively.
    max_evaluations : int
        Give up after so many evaluations of the deviance with its gradient.

    Examples
    --------
    >>> Control(tolerance=1e-12)
    Control(tolerance=1e-12, max_evaluations=500)
    """

    tolerance: float = 1e-10
    max_evaluations: int = 500

    def __post_init__(self) -> None:
        """Refuse limits that would end no search, or end it before it begins."""
        for name, least in (("tolerance", 0.0), ("max_evaluations", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ArgumentError(f"{name}={value!r} must be a number of at least {least:g}.")


@dataclass(frozen=True)
class Search:
    """
    What an engine found.

    Parameters
    ----------
    theta : ndarray of shape (m,)
        Covariance parameters, in lme4's order, signs rectified.
    engine : str
        Which engine found it.
    evaluations : int
        Evaluations of the deviance.
    converged : bool
        Whether the engine is satisfied.
    message : str
        Its reason, in words.
    deviance : float
        Its own claim of -2 log-likelihood (or the REML criterion) at ``theta``.
    trace : tuple of float
        Deviance after each evaluation, where the engine tells.
    slack : float
        For parameters on the boundary: the smallest rate at which the deviance would rise on
        leaving it; infinite if none is there. Negative says that it is no optimum.
    seconded : str or None
        Name of a second engine that ended at the same optimum.
    raw : object
        The engine's own result, such as statsmodels' ``MixedLMResults``.
    remarks : tuple of str
        What the user should know of how it went.
    """

    theta: Vector
    engine: str
    evaluations: int
    converged: bool
    message: str
    deviance: float
    trace: tuple[float, ...] = ()
    slack: float = np.inf
    seconded: str | None = None
    raw: Any = field(default=None, repr=False)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())


@dataclass(frozen=True)
class Note:
    """
    Something about a fit that its user should know.

    Parameters
    ----------
    text : str
        A sentence.
    warning : type of warning or None
        How it is warned of; None for a remark that is only kept.
    """

    text: str
    warning: type[MixedfxWarning] | None = None


@dataclass(frozen=True)
class Certificate:
    """
    The proof that a fit is at an optimum.

    Parameters
    ----------
    gradient : float
        Largest derivative of the deviance by a free, unit-free parameter.
    decrease : float
        What a Newton step from here would still gain in deviance.
    curvature : float
        Smallest eigenvalue of the Hessian over the free, unit-free parameters; positive at
        a strict optimum, infinite if no parameter is free.
    boundary : tuple of str
        Parameters on the boundary: standard deviations of zero, correlations of one.
    slack : float
        Smallest rate at which the deviance rises on leaving the boundary.
    seconded : str or None
        A second engine that ended at the same optimum.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> fit.certificate.ok, fit.certificate.boundary
    (True, ())
    """

    gradient: float
    decrease: float
    curvature: float
    boundary: tuple[str, ...]
    slack: float
    seconded: str | None

    @property
    def ok(self) -> bool:
        """Whether first and second order conditions hold to rounding."""
        return self.decrease < 1e-6 and self.curvature > -1e-3 and self.slack > -1e-3

    def __str__(self) -> str:
        """Say it in one line."""
        verdict = "optimum certified" if self.ok else "NOT certified as an optimum"
        parts = [f"gradient {self.gradient:.1e}", f"curvature {self.curvature:.3g}"]
        if self.boundary:
            parts.append(f"on the boundary: {', '.join(self.boundary)} (slack {self.slack:.3g})")
        if self.seconded:
            parts.append(f"{self.seconded} agrees")
        return f"{verdict}: {'; '.join(parts)}"


@dataclass(frozen=True)
class Curvature:
    """
    The deviance around an optimum.

    Parameters
    ----------
    chart : Chart
        Coordinates of the terms' Lambdas in their frames, as many as are free.
    x : ndarray of shape (m,)
        The optimum in them.
    gradient : ndarray of shape (m,)
        Zero but for rounding.
    hessian : ndarray of shape (m, m)
        Symmetric.
    """

    chart: Chart
    x: Vector
    gradient: Vector
    hessian: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())


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
        if self.dispersion is None:
            return str(self.formula)
        return f"{self.formula}; dispersion {self.dispersion.scale.formula}"

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
        return certify(self)


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
    return Fit(formula, design, cross, reml, search, solution, notes, dispersion, beliefs)


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


def boundary(design: Design, cross: CrossProducts, theta: Vector) -> tuple[str, ...]:
    """
    Name what is on the boundary of the parameter space.

    Parameters
    ----------
    design : Design
        For the names.
    cross : CrossProducts
        For the scales.
    theta : ndarray of shape (m,)
        Covariance parameters.

    Returns
    -------
    tuple of str
        ``sd(Days | Subject)`` for a zero standard deviation, ``corr(... | Subject)`` for a
        covariance matrix that is singular without one. Empty for an interior theta.

    Notes
    -----
    Zero means below 1e-4 residual standard deviations, the term's columns taken at unit root
    mean square, so that units do not matter.
    """
    found = []
    lambdas = cross.layout.lambdas(theta)
    for block, lam, scale in zip(design.blocks, lambdas, cross.scales, strict=True):
        scaled = lam * scale[:, None]
        sds = np.sqrt((scaled**2).sum(axis=1))
        zero = sds < ZERO
        found += [
            f"sd({name} | {block.group})"
            for name, is_zero in zip(block.effects, zero, strict=True)
            if is_zero
        ]
        live = scaled[~zero]
        if len(live) > 1 and block.term.structure == "us":
            # Relative to the sds, so that a small but healthy effect is not called singular.
            smallest = np.linalg.svd(live / sds[~zero, None], compute_uv=False)[-1]
            if smallest < ZERO:
                names = ", ".join(n for n, z in zip(block.effects, zero, strict=True) if not z)
                found.append(f"corr({names} | {block.group})")
    return tuple(found)


def curvature(cross: CrossProducts, theta: Vector, *, reml: bool) -> Curvature:
    """
    Differentiate the deviance twice at an optimum, along everything that is free there.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    theta : ndarray of shape (m,)
        Covariance parameters.
    reml : bool
        Which criterion.

    Returns
    -------
    Curvature
        The Hessian by central differences of fourth order of the analytic gradient, in
        coordinates of the covariances' rank: what is on the boundary stays there.
    """
    chart, x = coordinates(cross, theta)

    def slope(at: Vector) -> Vector:
        return framed_gradient(cross, chart, at, frames=cross.frames, reml=reml)

    H = np.empty((len(x), len(x)))
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = h = 1e-3 * max(1.0, abs(x[j]))
        near, far = slope(x + step) - slope(x - step), slope(x + 2 * step) - slope(x - 2 * step)
        H[j] = (8.0 * near - far) / (12.0 * h)  # exact for cubics: near zero the slope is one
    g = slope(x) if len(x) else x
    return Curvature(chart, x, g, 0.5 * (H + H.T))


def coordinates(cross: CrossProducts, theta: Vector) -> tuple[Chart, Vector]:
    """
    Take coordinates of the covariances of the rank that they have.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    theta : ndarray of shape (m,)
        Covariance parameters.

    Returns
    -------
    chart : Chart
        Coordinates of the terms' Lambdas in their frames; what is on the boundary has none.
    x : ndarray
        Theta in them.
    """
    return pivoted(cross.layout, _live_roots(cross, theta))


def framed_gradient(
    cross: CrossProducts, chart: Chart, x: Vector, *, frames: Sequence[Matrix], reml: bool
) -> Vector:
    """
    Differentiate the deviance by coordinates of the Lambdas in some frames.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    chart : Chart
        The coordinates.
    x : ndarray of shape (m,)
        Where.
    frames : sequence of ndarray of shape (k, k)
        One per term: the Lambdas are these times those of the chart.
    reml : bool
        Which criterion.

    Returns
    -------
    ndarray of shape (m,)
        Exact.
    """
    natural = [f @ m for f, m in zip(frames, chart.lambdas(x), strict=True)]
    by_lambda = slopes(solve_at(cross, natural, reml=reml), reml=reml)
    return chart.pack([f.T @ m for f, m in zip(frames, by_lambda, strict=True)])


def _live_roots(cross: CrossProducts, theta: Vector) -> list[Matrix]:
    """Roots of the terms' unit-free covariances, without the columns that are zero."""
    roots = []
    lambdas = cross.layout.lambdas(theta)
    for lam, frame, structure in zip(lambdas, cross.frames, cross.layout.structures, strict=True):
        framed = np.asarray(np.linalg.solve(frame, lam))
        if structure == "diag":
            roots.append(framed[:, np.abs(np.diag(framed)) >= ZERO])
            continue
        values, vectors = np.linalg.eigh(framed @ framed.T)
        live = values >= ZERO**2
        roots.append(np.asarray(vectors[:, live] * np.sqrt(values[live])))
    return roots


def certify(fit: Fit) -> Certificate:
    """
    Check the conditions of a minimum at a fit's theta.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    Certificate
        From the gradient and the Hessian along everything that is not on the boundary.
    """
    names = boundary(fit.design, fit.cross, fit.solution.theta)
    at: Curvature | Dispersion | Beliefs = fit.beliefs or fit.dispersion or fit.curvature
    if not len(at.gradient):
        return Certificate(0.0, 0.0, np.inf, names, fit.search.slack, fit.search.seconded)
    values, vectors = np.linalg.eigh(at.hessian)
    along = vectors.T @ at.gradient
    steep = values > 1e-6 * max(values[-1], 1e-300)
    decrease = float(0.5 * (along[steep] ** 2 / values[steep]).sum())
    return Certificate(
        gradient=float(np.abs(at.gradient).max()),
        decrease=decrease + float(np.abs(along[~steep]).sum()),
        curvature=float(values[0]),
        boundary=names,
        slack=fit.search.slack,
        seconded=fit.search.seconded,
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
            "shows how far the posterior reaches, and a prior that is zero at zero avoids it."
        )
        return [Note(text, SingularFitWarning)]
    text = (
        f"singular fit: {where} The data do not support every random effect; the estimates are "
        "the optimum all the same. A simpler model leaves a term out, or its correlations with "
        "'||'; fit.rank_pca() and fit.ranova() help to choose."
    )
    return [Note(text, SingularFitWarning)]
