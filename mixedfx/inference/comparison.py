"""Models side by side: likelihood ratios, information criteria, and each random term's worth.

Likelihoods compare only between models of the same rows, and REML criteria only between
models of the same fixed columns: what does not compare is refused, or fitted again by maximum
likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.design.build import Design
from mixedfx.design.random import RandomTermDesign
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import Profiled
from mixedfx.fit import fit_design
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.pls import solve_pls
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def compare(
    fits: Sequence[FittedModel], names: Sequence[str], *, refit: bool = True
) -> pd.DataFrame:
    """
    Compare nested models by likelihood ratios, and any models by AIC and BIC.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.1.
    """
    if len(fits) < 2:
        raise ArgumentError("compare() needs two fits or more.")
    for fit in fits:
        expect_no_priors(fit, "compare()")
    for fit, name in zip(fits[1:], names[1:], strict=True):
        _check_same_rows(fits[0], names[0], fit, name)
    again = [refit and fit.reml for fit in fits]
    if not refit:
        _check_same_criterion(fits, names)
    deviances = [
        _by_maximum_likelihood(fit) if anew else fit.deviance
        for fit, anew in zip(fits, again, strict=True)
    ]
    npar = [fit.n_params for fit in fits]
    order = np.argsort(npar, kind="stable")
    table = pd.DataFrame(
        {
            "npar": npar,
            "aic": [d + 2.0 * k for d, k in zip(deviances, npar, strict=True)],
            "bic": [
                d + math.log(fits[0].crossprod.n) * k for d, k in zip(deviances, npar, strict=True)
            ],
            "llf": [-0.5 * d for d in deviances],
            "deviance": deviances,
        },
        index=pd.Index(list(names), name="model"),
    ).iloc[order]
    table["df"] = table["npar"].diff()
    # Models of one size are not nested, and have no ratio to test.
    ratio = (-table["deviance"].diff()).clip(lower=0.0).where(table["df"] > 0) + 0.0
    table.insert(5, "chisq", ratio)
    table["p_value"] = special.chdtrc(table["df"].where(table["df"] > 0), table["chisq"])
    table["refitted"] = np.array(again)[order]
    return table


def _check_same_rows(first: FittedModel, one: str, other: FittedModel, two: str) -> None:
    a, b = first.design, other.design
    if len(a.y) != len(b.y) or not a.index.equals(b.index):
        raise ArgumentError(
            f"'{one}' and '{two}' were fitted to different rows ({len(a.y)} and {len(b.y)}), so "
            "their likelihoods do not compare. Fit both to rows that are complete for both."
        )
    gap = np.abs(a.response - b.response).max()
    if gap > 1e-12 * max(_size(a), _size(b)):
        raise ArgumentError(
            f"'{one}' and '{two}' have different responses ({a.formula.response}, "
            f"{b.formula.response}), so their likelihoods do not compare."
        )


def _size(design: Design) -> float:
    """Size of the numbers that a response was computed from: its rounding is of their order."""
    offset = 0.0 if design.offset is None else float(np.abs(design.offset).max())
    return float(np.abs(design.y).max()) + offset


def _check_same_criterion(fits: Sequence[FittedModel], names: Sequence[str]) -> None:
    first = fits[0]
    for fit, name in zip(fits[1:], names[1:], strict=True):
        if fit.reml != first.reml:
            raise ArgumentError(
                f"'{names[0]}' and '{name}' were fitted by different criteria (REML and maximum "
                "likelihood); compare them with refit=True."
            )
        same = fit.reml is False or _same_span(first.design.X, fit.design.X)
        if not same:
            raise ArgumentError(
                f"'{names[0]}' and '{name}' have different fixed columns, so their REML criteria "
                "do not compare; compare them with refit=True."
            )


def _same_span(X: Matrix, Y: Matrix) -> bool:
    """Whether two sets of columns are the same numbers: REML criteria depend on them."""
    return X.shape == Y.shape and bool(np.allclose(X, Y, rtol=1e-12, atol=0.0))


def _by_maximum_likelihood(fit: FittedModel) -> float:
    control = Control()
    if fit.dispersion is not None:
        return fit_design(
            fit.original_design, engine="profiled", reml=False, control=control
        ).deviance
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        found = Profiled().estimate(
            fit.design, fit.crossprod, reml=False, control=control, start=fit.solution.theta
        )
    return found.deviance


def ranova(fit: FittedModel) -> pd.DataFrame:
    """
    Test each random term by the likelihood ratio of the model with less of it.

    A term of several effects loses one of them at a time (a correlated intercept stays), one
    of a factor's indicators becomes an intercept, and a term of one effect is left out.

    References
    ----------
    .. [1] Self and Liang (1987), J. Am. Stat. Assoc. 82:605, cases 5 and 6.
    .. [2] Stram and Lee (1994), Biometrics 50:1171.
    """
    expect_no_priors(fit, "ranova()")
    if not fit.design.random_terms:
        raise ArgumentError(f"'{fit.formula}' has no random term to test.")
    npar = fit.n_params
    rows = [{"npar": npar, "llf": -0.5 * fit.deviance}]
    names = ["<none>"]
    for name, random_terms, removed in _reductions(fit):
        smaller = replace(fit.original_design, random_terms=random_terms)
        deviance, size = _deviance(smaller, reml=fit.reml)
        chisq = max(deviance - fit.deviance, 0.0)
        df = fit.crossprod.parametrization.size - size
        upper = float(special.chdtrc(df, chisq))
        lower = float(special.chdtrc(df - 1, chisq)) if df > 1 else 0.0
        mixture = 0.5 * (lower + upper) if removed == 1 else np.nan
        if removed == 1 and df == 1 and chisq == 0.0:
            mixture = 1.0
        names.append(name)
        rows.append(
            {
                "npar": npar - df,
                "llf": -0.5 * deviance,
                "chisq": chisq,
                "df": df,
                "p_value": upper,
                "p_mixture": mixture,
            }
        )
    table = pd.DataFrame(rows, index=pd.Index(names, name="left_out"))
    table.insert(2, "aic", 2.0 * table["npar"] - 2.0 * table["llf"])
    return table


def _deviance(design: Design, *, reml: bool) -> tuple[float, int]:
    """Best deviance of a design, and the number of its covariance parameters."""
    if design.dispersion is not None:
        found = fit_design(design, engine="profiled", reml=reml, control=Control())
        return found.deviance, found.crossprod.parametrization.size
    reduced = compute_crossproducts(design)
    if not design.random_terms:
        return solve_pls(reduced, np.zeros(0), reml=reml).deviance, 0
    with single_threaded_blas(reduced.symbolic.dense_size):
        end = Profiled().estimate(design, reduced, reml=reml, control=Control())
    return end.deviance, reduced.parametrization.size


def _reductions(fit: FittedModel) -> list[tuple[str, tuple[RandomTermDesign, ...], int]]:
    """Each way to make a term smaller: its name, the terms left, the effects removed."""
    found = []
    random_terms = fit.design.random_terms
    for t, random_term in enumerate(random_terms):
        before, after = random_terms[:t], random_terms[t + 1 :]
        for name, kept in _smaller(fit, t):
            left = () if kept is None else (kept,)
            removed = len(random_term.effect_names) - (
                0 if kept is None else len(kept.effect_names)
            )
            label = name if kept is None else f"{name} in {random_term.formula_term}"
            found.append((label, (*before, *left, *after), removed))
    return found


def _smaller(fit: FittedModel, t: int) -> list[tuple[str, RandomTermDesign | None]]:
    random_term, info = fit.design.random_terms[t], fit.design.spec.random[t]
    if info is None or len(info.terms) == 1:
        several = info is not None and len(random_term.effect_names) > 1
        if (
            not several
            or random_term.formula_term.structure != "us"
            or np.ptp(random_term.model_matrix.sum(axis=1)) != 0.0
        ):
            return [(str(random_term.formula_term), None)]
        assert info is not None  # the indicators of a factor, which hold the intercept
        ones = np.broadcast_to(1.0, (len(random_term.codes), 1)).view()
        return [
            (
                info.terms[0].name(),
                replace(random_term, model_matrix=ones, effect_names=("Intercept",)),
            )
        ]
    found: list[tuple[str, RandomTermDesign | None]] = []
    for term in info.terms:
        # What an interaction says of a main effect depends on the coding: it goes first.
        if any(set(term.factors) < set(o.factors) for o in info.terms if term.factors):
            continue
        if not term.factors and random_term.formula_term.structure == "us":
            continue
        out = np.zeros(len(random_term.effect_names), dtype=bool)
        out[info.term_slices[term]] = True
        effects = tuple(
            e for e, gone in zip(random_term.effect_names, out, strict=True) if not gone
        )
        found.append(
            (
                term.name(),
                replace(
                    random_term,
                    model_matrix=random_term.model_matrix[:, ~out],
                    effect_names=effects,
                ),
            )
        )
    return found
