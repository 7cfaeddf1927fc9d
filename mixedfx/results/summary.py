"""Tables that ``fit.summary()`` prints, arranged as lme4 and lmerTest arrange them."""

from __future__ import annotations

import pandas as pd

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formatting import Summary
from mixedfx.inference import dispersion_table, varcorr, wald
from mixedfx.inference.cluster_robust import COV_TYPES
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.information_criteria import aic, bic
from mixedfx.inference.sampled_rows import sampled_share
from mixedfx.results.further_predictors import SeveralSummary, further_sections
from mixedfx.storage.summaries import residual_quantiles

_TESTS = {
    "satterthwaite": "t, degrees of freedom by Satterthwaite's method",
    "kenward-roger-linear": "t, Kenward and Roger's method without second derivatives",
    "kenward-roger": "t, degrees of freedom and standard errors by Kenward and Roger's method",
    "residual": "t, residual degrees of freedom",
    "normal": "z, normal distribution",
}
_TESTS |= {
    name: f"t, cluster-robust standard errors ({name}), their degrees of freedom by Satterthwaite"
    for name in COV_TYPES
}
_TESTS |= {f"{name}, normal": f"z, cluster-robust standard errors ({name})" for name in COV_TYPES}


def summarize(fit: FittedModel, ddf: DenominatorDf, df_method: str) -> Summary:
    """Collect the tables of a fit, its tests with the degrees of freedom ``ddf``."""
    quantiles = residual_quantiles(fit)
    groups = "; ".join(f"{name}, {count}" for name, count in fit.spec.ngroups.items())
    notes = tuple(note.text for note in fit.notes)
    further = further_sections(fit)
    summary = Summary(
        header=_header(fit, df_method),
        residuals=pd.Series(quantiles, index=["Min", "1Q", "Median", "3Q", "Max"]),
        components=varcorr.varcorr_table(fit),
        counts=f"{fit.nobs}" + (f"; groups: {groups}" if groups else ""),
        coefficients=_coefficients(fit, ddf, df_method),
        notes=notes if ddf.remark is None else (*notes, ddf.remark),
        dispersion=_residual_params(fit) if fit.spec.residual.n_params else None,
        residuals_title=fit.spec.residual.residuals_title + sampled_share(fit),
        dispersion_title=fit.spec.residual.params_title,
    )
    return SeveralSummary(**vars(summary), further=further) if further else summary


def criterion(fit: FittedModel) -> str:
    """Name and value of the criterion at the optimum."""
    return fit.spec.residual.criterion_text(fit.deviance, reml=fit.reml)


def _header(fit: FittedModel, df_method: str) -> list[tuple[str, str]]:
    engine = fit.optimizer_result.engine
    confirmed_by = fit.optimizer_result.confirmed_by
    if confirmed_by is not None:
        engine = f"{engine} (the {confirmed_by} engine agrees)"
    if fit.optimizer_result.monte_carlo is not None:
        engine = f"{engine}; {fit.optimizer_result.monte_carlo}"
    model = ("Model", _title(fit)), ("Formula", str(fit.formula))
    lines = [
        *model,
        *fit.spec.residual.header(mixed=bool(fit.spec.random_terms)),
        ("Engine", engine),
    ]
    if fit.priors.specified:
        return [*lines, *fit.priors.header, ("Tests", _TESTS["normal"])]
    tests = "residual" if _is_regression(fit) and df_method != "normal" else df_method
    if _is_regression(fit) and not fit.spec.residual.estimates_sigma:
        tests = "normal"
    criteria = f"{criterion(fit)}; AIC {aic(fit):.1f}, BIC {bic(fit):.1f}"
    return [*lines, ("Criterion", criteria), ("Tests", _TESTS[tests])]


def _title(fit: FittedModel) -> str:
    method = "REML" if fit.reml else "maximum likelihood"
    if fit.priors.specified:
        method = "REML with priors" if fit.reml else "maximising the posterior"
    elif _is_regression(fit):
        method = f"least squares ({'REML' if fit.reml else 'maximum likelihood'})"
    residual = fit.spec.residual
    model = f"{residual.kind} mixed model" if fit.spec.ngroups else residual.kind_without_effects
    return f"{model}, fitted by {method}"


def _is_regression(fit: FittedModel) -> bool:
    """Whether the fit is a least-squares regression without priors."""
    return fit.spec.is_least_squares and not fit.priors.specified


def _residual_params(fit: FittedModel) -> pd.DataFrame:
    """Parameters of the residual model, or of the family."""
    names = {"estimate": "Estimate", "std_error": "Std. Error", "sd": "exp(Estimate)"}
    table = dispersion_table.residual_parameters(fit)
    return table.rename_axis(None).rename(columns=names)


def _coefficients(fit: FittedModel, ddf: DenominatorDf, df_method: str) -> pd.DataFrame:
    """Fixed effects under R's column names."""
    table = wald.tidy(fit, ddf, conf_level=0.95).set_index("term").rename_axis(None)
    letter = "z" if df_method.endswith("normal") else "t"
    names = {
        "estimate": "Estimate",
        "std_error": "Std. Error",
        "df": "df",
        "statistic": f"{letter} value",
        "p_value": f"Pr(>|{letter}|)",
    }
    if letter == "z":
        del names["df"]
    return table[list(names)].rename(columns=names)
