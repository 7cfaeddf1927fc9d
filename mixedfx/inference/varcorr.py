"""Covariances ``sigma^2 Lambda Lambda'`` of the random effects, as tables and matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import linalg

from mixedfx.estimation.fitted_model import FittedModel


def covariance_matrices(fit: FittedModel) -> dict[str, pd.DataFrame]:
    """Covariance matrix of each group's random effects; its terms are independent."""
    lambdas = fit.solution.lambdas
    result: dict[str, pd.DataFrame] = {}
    for group in fit.formula.groups:
        terms = fit.spec.terms_of(group)
        names = [name for t in terms for name in fit.spec.random_terms[t].effect_names]
        cov = linalg.block_diag(
            *(fit.solution.sigma**2 * (lambdas[t] @ lambdas[t].T) for t in terms)
        )
        result[group] = pd.DataFrame(cov, index=names, columns=names)
    return result


def varcorr_table(fit: FittedModel) -> pd.DataFrame:
    """Variances, covariances and the residual variance, a row each, as lme4's VarCorr."""
    rows: list[tuple[str, str | None, str | None, float, float]] = []
    sigma = fit.solution.sigma
    lambdas = fit.solution.lambdas
    structures = fit.crossprod.parametrization.terms
    terms = zip(fit.spec.random_terms, structures, lambdas, strict=True)
    for random_term, (structure, at), lam in terms:
        cov = sigma**2 * (lam @ lam.T)
        for c in structure.components(lam, at):
            names = [random_term.effect_names[i] for i in c.effects]
            if not names:
                names = [random_term.formula_term.effects_name, c.label or structure.name]
            i, j = (c.effects or (0, 0))[0], (c.effects or (0, 0))[-1]
            if c.kind == "sd":
                rows.append((random_term.group, names[0], None, cov[i, i], sigma * c.value))
            elif c.kind == "corr":
                # Of all effects together: a covariance if their variances are equal.
                shared = cov[0, 0] * c.value if not structure.sds(at)[1:] else np.nan
                of_pair = cov[j, i] if c.effects else shared
                rows.append((random_term.group, names[0], names[1], of_pair, c.value))
            else:
                rows.append((random_term.group, names[0], c.kind, np.nan, c.value))
    rows += [("Residual", *row) for row in fit.residual.varcorr_rows(sigma)]
    result = pd.DataFrame(rows, columns=["group", "effect", "effect2", "vcov", "sdcor"])
    names_only = result[["group", "effect", "effect2"]].astype(object)
    result[["group", "effect", "effect2"]] = names_only.where(names_only.notna(), np.nan)
    return result


def variances(fit: FittedModel) -> pd.Series:
    """Variance of each random effect, without the residual."""
    table = varcorr_table(fit)
    of_effects = table["effect"].notna() & (table["group"] != "Residual")
    diagonal = table[of_effects & table["effect2"].isna()]
    index = pd.MultiIndex.from_arrays(
        [diagonal["group"], diagonal["effect"]], names=["group", "effect"]
    )
    return pd.Series(diagonal["vcov"].to_numpy(), index=index, name="variance")
