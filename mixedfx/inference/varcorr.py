"""Theta to variance components: the covariances of the random effects, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.estimation.fitted_model import FittedModel


def covariances(fit: FittedModel) -> dict[str, pd.DataFrame]:
    """Covariance matrix of each group's random effects."""
    random_terms = fit.design.random_terms
    lambdas = fit.crossprod.parametrization.lambdas(fit.solution.theta)
    result: dict[str, pd.DataFrame] = {}
    for group in fit.formula.groups:
        mine = [(b, lam) for b, lam in zip(random_terms, lambdas, strict=True) if b.group == group]
        names = [name for b, _ in mine for name in b.effect_names]
        full = np.zeros((len(names), len(names)))
        at = 0
        for _, lam in mine:
            part = slice(at, at + len(lam))
            full[part, part] = fit.solution.sigma**2 * (lam @ lam.T)
            at += len(lam)
        result[group] = pd.DataFrame(full, index=names, columns=names)
    return result


def varcorr_table(fit: FittedModel) -> pd.DataFrame:
    """Variances, covariances and the residual variance, a row each."""
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
    rows = varcorr_table(fit)
    single = rows[rows["effect"].notna() & rows["effect2"].isna()]
    index = pd.MultiIndex.from_arrays(
        [single["group"], single["effect"]], names=["group", "effect"]
    )
    return pd.Series(single["vcov"].to_numpy(), index=index, name="variance")
