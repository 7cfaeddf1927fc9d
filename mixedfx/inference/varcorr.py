"""Covariances ``sigma^2 Lambda Lambda'`` of the random effects, as tables and matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import linalg

from mixedfx.estimation.fitted_model import FittedModel


def covariance_matrices(fit: FittedModel) -> dict[str, pd.DataFrame]:
    """Covariance matrix of each group's random effects; its terms are independent."""
    lambdas = fit.crossprod.parametrization.lambdas(fit.solution.theta)
    result: dict[str, pd.DataFrame] = {}
    for group in fit.formula.groups:
        terms = [t for t, term in enumerate(fit.design.random_terms) if term.group == group]
        names = [name for t in terms for name in fit.design.random_terms[t].effect_names]
        cov = linalg.block_diag(
            *(fit.solution.sigma**2 * (lambdas[t] @ lambdas[t].T) for t in terms)
        )
        result[group] = pd.DataFrame(cov, index=names, columns=names)
    return result


def varcorr_table(fit: FittedModel) -> pd.DataFrame:
    """Variances, covariances and the residual variance, a row each, as lme4's VarCorr."""
    rows: list[tuple[str, str | None, str | None, float, float]] = []
    sigma = fit.solution.sigma
    lambdas = fit.crossprod.parametrization.lambdas(fit.solution.theta)
    for random_term, lam in zip(fit.design.random_terms, lambdas, strict=True):
        cov = sigma**2 * (lam @ lam.T)
        sd = np.sqrt(np.diag(cov))
        names = random_term.effect_names
        rows += [(random_term.group, n, None, cov[i, i], sd[i]) for i, n in enumerate(names)]
        if random_term.formula_term.structure == "diag":
            continue
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                product = sd[i] * sd[j]
                cor = float(np.clip(cov[j, i] / product, -1.0, 1.0)) if product > 0 else np.nan
                rows.append((random_term.group, names[i], names[j], cov[j, i], cor))
    if not fit.known_sds:
        rows.append(("Residual", None, None, sigma**2, sigma))
    result = pd.DataFrame(rows, columns=["group", "effect", "effect2", "vcov", "sdcor"])
    names_only = result[["group", "effect", "effect2"]].astype(object)
    result[["group", "effect", "effect2"]] = names_only.where(names_only.notna(), np.nan)
    return result


def variances(fit: FittedModel) -> pd.Series:
    """Variance of each random effect, without the residual."""
    table = varcorr_table(fit)
    diagonal = table[table["effect"].notna() & table["effect2"].isna()]
    index = pd.MultiIndex.from_arrays(
        [diagonal["group"], diagonal["effect"]], names=["group", "effect"]
    )
    return pd.Series(diagonal["vcov"].to_numpy(), index=index, name="variance")
