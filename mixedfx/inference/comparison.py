"""Likelihood-ratio tests and information criteria of several models, and tests of random terms.

Likelihoods are comparable between models of the same rows, REML criteria only between models of
the same fixed columns: other models are refused, or fitted again by maximum likelihood.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy.desc import INTERCEPT
from scipy import special

from mixedfx._names import decode
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.design.submodels import ReducedTerm, with_fewer_effects, with_random_terms
from mixedfx.errors import ArgumentError, check_flag
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.fit import fit_design
from mixedfx.inference.nesting import why_not_nested
from mixedfx.inference.sampled_rows import with_sampled_rows
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.residuals.registry import residual_model

Matrix = npt.NDArray[np.float64]

# The mode's density is no likelihood maximised: its ratios have no chi-squared distribution.
_OF_POSTERIORS = (
    "Posteriors are compared by how well they predict: "
    "arviz_stats.compare({'one': one.sample(), 'other': other.sample()})."
)


def compare(
    fits: Sequence[FittedModel], names: Sequence[str], *, refit: bool = True
) -> pd.DataFrame:
    """
    Compare nested models by likelihood ratios, and any models by AIC and BIC.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.1.
    """
    check_flag("refit", refit)
    if len(fits) < 2:
        raise ArgumentError("compare() needs two fits or more.")
    for fit in fits:
        check_no_priors(fit, "compare()", _OF_POSTERIORS)
    whole, fits = fits, [with_sampled_rows(fit) for fit in fits]
    for fit, name in zip(fits[1:], names[1:], strict=True):
        check_comparable(fits[0], names[0], fit, name)
    refitted = [refit and fit.reml for fit in fits]
    if not refit:
        _check_same_criterion(fits, names)
    both = zip(whole, refitted, strict=True)
    deviances = [ml_deviance(fit) if by_ml else fit.deviance for fit, by_ml in both]
    npar = [fit.n_params for fit in fits]
    order = np.argsort(npar, kind="stable")
    table = pd.DataFrame(
        {
            "npar": npar,
            "aic": [d + 2.0 * k for d, k in zip(deviances, npar, strict=True)],
            "bic": [d + math.log(fits[0].nobs) * k for d, k in zip(deviances, npar, strict=True)],
            "llf": [-0.5 * d for d in deviances],
            "deviance": deviances,
        },
        index=pd.Index(list(names), name="model"),
    ).iloc[order]
    table["df"] = table["npar"].diff()
    # The ratio has a distribution only where the model above is a special case of this one.
    pairs = itertools.pairwise([fits[i] for i in order])
    reasons = [None, *(why_not_nested(above, below) for above, below in pairs)]
    nested = [False, *(reason is None for reason in reasons[1:])]
    testable = (table["df"] > 0) & np.array(nested)
    ratio = (-table["deviance"].diff()).clip(lower=0.0).where(testable) + 0.0
    table.insert(5, "chisq", ratio)
    table.insert(7, "p_value", special.chdtrc(table["df"].where(testable), table["chisq"]))
    table["refitted"] = np.array(refitted)[order]
    table["nested"] = [None, *nested[1:]]
    table.attrs["notes"] = _reasons_of_no_test(table.index, reasons[1:])
    return table


def _reasons_of_no_test(names: pd.Index, reasons: Sequence[str | None]) -> list[str]:
    """Why a model is not tested against that above it."""
    return [
        f"no test of '{below}' against '{above}': {reason}."
        for (above, below), reason in zip(itertools.pairwise(names), reasons, strict=True)
        if reason is not None
    ]


def check_comparable(
    first: FittedModel, first_name: str, other: FittedModel, other_name: str
) -> None:
    """Raise unless two fits have the same rows and response, and families of one kind."""
    a, b = first.rows, other.rows
    if not _same_index(a, b):
        if a.weights_are_counts or b.weights_are_counts:
            raise ArgumentError(
                f"'{first_name}' and '{other_name}' were read in chunks, and equal rows merged by "
                "the columns of each: tests compare row by row, so fit both to a DataFrame. Their "
                "aic and bic are of all rows."
            )
        raise ArgumentError(
            f"'{first_name}' and '{other_name}' were fitted to different rows ({a.n} and "
            f"{b.n}), so their likelihoods are not comparable. Fit both to rows that are "
            "complete for both."
        )
    if not (_same_response(a, b) and _same_trials(first, other)):
        raise ArgumentError(
            f"'{first_name}' and '{other_name}' have different responses "
            f"({first.formula.response}, {other.formula.response}), so their likelihoods are not "
            "comparable."
        )
    reason = difference(first, other)
    if reason:
        raise ArgumentError(f"'{first_name}' and '{other_name}' are not comparable: {reason}.")


def difference(a: FittedModel, b: FittedModel) -> str:
    """Why likelihoods of the same rows are not comparable by their families; empty if they are."""
    families = a.spec.family, b.spec.family
    if families[0].discrete != families[1].discrete:
        return (
            f"a family of counts has probabilities, and one of continuous responses densities "
            f"({families[0].name}, {families[1].name}); fit both with families of one kind"
        )
    nodes = [fit.spec.residual.n_nodes for fit in (a, b) if fit.spec.random_terms]
    if len({n for n in nodes if n}) > 1:
        return (
            f"their integrals are approximated with {nodes[0]} and {nodes[1]} nodes; fit both "
            "with the same nagq="
        )
    return ""


def same_rows(a: FittedModel, b: FittedModel) -> bool:
    """Whether two fits have the same rows and the same response, but for rounding."""
    a, b = with_sampled_rows(a), with_sampled_rows(b)
    return _same_index(a.rows, b.rows) and _same_response(a.rows, b.rows) and _same_trials(a, b)


def _same_trials(a: FittedModel, b: FittedModel) -> bool:
    """Whether two fits of proportions have them of the same trials."""
    trials = [
        np.ones(fit.rows.n) if fit.rows.weights is None else fit.rows.weights
        for fit in (a, b)
        if fit.spec.family.takes_trials
    ]
    return len(trials) < 2 or bool((trials[0] == trials[1]).all())


def _same_index(a: ModelRows, b: ModelRows) -> bool:
    return a.n == b.n and a.index.equals(b.index)


def _same_response(a: ModelRows, b: ModelRows) -> bool:
    largest = max(_response_magnitude(a), _response_magnitude(b))
    return bool(np.abs(a.y - b.y).max() <= 1e-12 * largest)


def _response_magnitude(rows: ModelRows) -> float:
    """Magnitude of response and offset, to which rounding of their sum is relative."""
    offset = 0.0 if rows.offset is None else float(np.abs(rows.offset).max())
    return float(np.abs(rows.response_less_offset).max()) + offset


def _check_same_criterion(fits: Sequence[FittedModel], names: Sequence[str]) -> None:
    """Raise unless all criteria are ML, or all are REML of the same fixed columns."""
    first = fits[0]
    for fit, name in zip(fits[1:], names[1:], strict=True):
        if same_criterion(first, fit):
            continue
        if fit.reml != first.reml:
            raise ArgumentError(
                f"'{names[0]}' and '{name}' were fitted by different criteria (REML and maximum "
                "likelihood); compare them with refit=True."
            )
        raise ArgumentError(
            f"'{names[0]}' and '{name}' have different fixed columns, so their REML criteria "
            "are not comparable; compare them with refit=True."
        )


def same_criterion(a: FittedModel, b: FittedModel) -> bool:
    """Whether both are maximum likelihood, or REML of the same fixed columns."""
    a, b = with_sampled_rows(a), with_sampled_rows(b)
    return a.reml == b.reml and (a.reml is False or _same_columns(a.rows.X, b.rows.X))


def _same_columns(X1: Matrix, X2: Matrix) -> bool:
    """Whether fixed columns are equal; REML criteria change by ``log |det T|^2`` under ``X T``."""
    return X1.shape == X2.shape and bool(np.allclose(X1, X2, rtol=1e-12, atol=0.0))


def ml_deviance(fit: FittedModel) -> float:
    """Deviance of the same model fitted by maximum likelihood."""
    control = Control()
    if fit.residual.model.n_params:
        return fit_design(
            fit.original_design, engine="profiled", reml=False, control=control
        ).deviance
    likelihood = fit.likelihood.maximum_likelihood()
    return estimate_theta(fit.design, likelihood, start=fit.solution.theta).deviance


def ranova(fit: FittedModel) -> pd.DataFrame:
    """
    Likelihood-ratio test of each random term against a reduced one.

    From a term of several effects one is removed at a time (a correlated intercept stays), a
    factor's indicators are replaced by an intercept, and a term of one effect is left out.

    References
    ----------
    .. [1] Self and Liang (1987), J. Am. Stat. Assoc. 82:605, cases 5 and 6.
    .. [2] Stram and Lee (1994), Biometrics 50:1171.
    """
    check_no_priors(fit, "ranova()", _OF_POSTERIORS)
    if not fit.spec.random_terms:
        raise ArgumentError(f"'{fit.formula}' has no random term to test.")
    npar = fit.n_params
    rows = [{"npar": npar, "llf": -0.5 * fit.deviance}]
    names = ["<none>"]
    for name, reduced, n_removed in reduced_models(fit):
        deviance, n_theta = _minimum_deviance(reduced, reml=fit.reml)
        chisq = max(deviance - fit.deviance, 0.0)
        df = fit.crossprod.parametrization.size - n_theta
        names.append(name)
        rows.append(
            {
                "npar": npar - df,
                "llf": -0.5 * deviance,
                "chisq": chisq,
                "df": df,
                "p_value": float(special.chdtrc(df, chisq)),
                "p_mixture": ratio_p_value(chisq, df, n_removed) if n_removed == 1 else np.nan,
            }
        )
    table = pd.DataFrame(rows, index=pd.Index(names, name="left_out"))
    table.insert(2, "aic", 2.0 * table["npar"] - 2.0 * table["llf"])
    return table


def deviance_without_term(fit: FittedModel, t: int) -> float:
    """Deviance of the model without one random term."""
    return _minimum_deviance(with_random_terms(fit.original_design, {t: None}), reml=fit.reml)[0]


def ratio_p_value(chisq: float, df: int, n_removed: int) -> float:
    """
    Upper tail of chi-squared with ``df``, or where one effect is left out of an equal mixture.

    The mixture is of chi-squared distributions with ``df - 1`` and ``df``.
    """
    p_value = float(special.chdtrc(df, chisq))
    if n_removed > 1:
        return p_value
    if df == 1 and chisq == 0.0:
        return 1.0
    return 0.5 * ((float(special.chdtrc(df - 1, chisq)) if df > 1 else 0.0) + p_value)


def _minimum_deviance(design: Design, *, reml: bool) -> tuple[float, int]:
    """Deviance of a fitted design, and its number of covariance parameters."""
    if residual_model(design).estimator != "engine":
        fit = fit_design(design, engine="profiled", reml=reml, control=Control())
        return fit.deviance, fit.crossprod.parametrization.size
    likelihood = GaussianLikelihood.from_design(design, reml=reml)
    return estimate_theta(design, likelihood).deviance, likelihood.parametrization.size


def reduced_models(fit: FittedModel) -> list[tuple[str, Design, int]]:
    """Models with one random term reduced: name, design, number of effects removed."""
    models = []
    for t, random_term in enumerate(fit.spec.random_terms):
        for name, reduced in _reduced_terms(fit, t):
            n_left = 0 if reduced is None else len(reduced.spec.effect_names)
            label = name if reduced is None else f"{name} in {random_term.formula_term}"
            n_removed = len(random_term.effect_names) - n_left
            design = with_random_terms(fit.original_design, {t: reduced})
            models.append((label, design, n_removed))
    return models


def _reduced_terms(fit: FittedModel, t: int) -> list[tuple[str, ReducedTerm | None]]:
    """Each term inside a random term that can be removed, and the random term without it."""
    random_term, rows = fit.spec.random_terms[t], fit.rows.sample.random_terms[t]
    info, k = random_term.info, len(random_term.effect_names)
    structure, _ = fit.crossprod.parametrization.terms[t]
    if not structure.linear:
        return [(str(random_term.formula_term), None)]
    is_us = structure.invariance == "linear"
    if info is None or len(info.terms) == 1:
        # The indicators of one factor span the intercept.
        indicators = info is not None and k > 1
        if not indicators or not is_us or np.ptp(rows.model_matrix.sum(axis=1)) != 0.0:
            return [(str(random_term.formula_term), None)]
        assert info is not None
        intercept = with_fewer_effects(random_term, [INTERCEPT])
        return [(decode(info.terms[0].name()), ReducedTerm(intercept, np.ones((k, 1))))]
    reduced_terms: list[tuple[str, ReducedTerm | None]] = []
    for term in info.terms:
        # Main effects are not removed beside their interaction: the test depends on the coding.
        if any(set(term.factors) < set(o.factors) for o in info.terms if term.factors):
            continue
        if not term.factors and is_us:
            continue
        keep = np.ones(k, dtype=bool)
        keep[info.term_slices[term]] = False
        left = with_fewer_effects(random_term, [other for other in info.terms if other != term])
        reduced_terms.append((decode(term.name()), ReducedTerm(left, np.eye(k)[:, keep])))
    return reduced_terms
