"""Clusters of rows: what ``groups=`` of a robust covariance names, checked against the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.levels import are_nested, outermost
from mixedfx.errors import ArgumentError, brief, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel

Codes = npt.NDArray[np.intp]


class Clusters(NamedTuple):
    """Name of the clusters, and that of each row."""

    name: str
    codes: Codes  # (n,)


def resolve_clusters(fit: FittedModel, groups: Any) -> Clusters:
    """Clusters that ``groups=`` names; by default the factor that all others are nested in."""
    factors = _factors(fit)
    _check_levels_apart(fit)
    if groups is None:
        return _default(factors)
    name = groups if isinstance(groups, str) else "groups"
    codes = _codes(fit, groups, factors)
    if codes.max(initial=0) < 1:
        raise ArgumentError(f"groups='{name}' is one cluster; a robust covariance needs several.")
    for factor, own in factors.items():
        if not are_nested(own, codes):
            around = outermost(factors)
            suggested = "" if around is None else f", such as groups='{around}'"
            raise ArgumentError(
                f"levels of '{factor}' have rows in several clusters of '{name}', so that clusters "
                "are correlated: take groups= in which the grouping factors are nested"
                f"{suggested}."
            )
    return Clusters(name, codes)


def _factors(fit: FittedModel) -> dict[str, Codes]:
    """Level of each row in each grouping factor, and of the subjects of residuals."""
    factors = {group: fit.rows.codes_of(group) for group in fit.formula.groups}
    subjects = fit.residual.subjects
    if subjects is not None:
        factors.setdefault(subjects.name, subjects.codes)
    return factors


def _check_levels_apart(fit: FittedModel) -> None:
    for term in fit.spec.random_terms:
        if not term.is_plain:
            raise ArgumentError(
                f"levels of {term.formula_term} are related, or rows belong to several: there are "
                "no independent clusters, which a robust covariance needs."
            )


def _default(factors: dict[str, Codes]) -> Clusters:
    name = outermost(factors)
    if name is not None:
        return Clusters(name, factors[name])
    if not factors:
        raise ArgumentError("this model has no grouping factor: name the clusters by groups=.")
    raise ArgumentError(
        f"no factor of {', '.join(factors)} has all others within its levels: crossed factors "
        "leave no independent clusters, which a robust covariance needs."
    )


def _codes(fit: FittedModel, groups: Any, factors: dict[str, Codes]) -> Codes:
    """Cluster of each row of the fit."""
    if isinstance(groups, str):
        if groups in factors:
            return factors[groups]
        columns = fit.rows.columns
        if groups not in columns:
            known = list(dict.fromkeys([*factors, *columns]))
            raise ArgumentError(
                f"groups='{groups}' is no grouping factor or column of the model; these are "
                f"{', '.join(known)}. Other clusters are given as a Series or an array."
                f"{did_you_mean(groups, known)}"
            )
        groups = columns[groups]
    if isinstance(groups, pd.Series):
        missing = fit.rows.index.difference(groups.index)
        if groups.index.has_duplicates or len(missing):
            if len(groups) != fit.rows.n:
                raise ArgumentError(
                    f"groups is a Series without the labels of {len(missing)} rows of the fit, "
                    "or with labels that repeat; give one value for each row of the fit."
                )
        else:
            groups = groups.loc[fit.rows.index]
    given = np.asarray(groups, dtype=object)
    if given.ndim != 1:
        raise ArgumentError(
            f"groups={brief(groups)} must be a column's name, or one cluster for each row."
        )
    if len(given) != fit.rows.n:
        raise ArgumentError(
            f"groups has {len(given)} values, and the fit {fit.rows.n} rows: give one for each "
            "row of the fit, or a Series with the data's index."
        )
    codes, _ = pd.factorize(given)
    if (codes < 0).any():
        raise ArgumentError(f"groups has {int((codes < 0).sum())} missing values.")
    return np.asarray(codes, dtype=np.intp)
