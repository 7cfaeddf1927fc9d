"""Names of other programs: arguments and attributes that users of those try, and ours instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from mixedfx.errors import CallError, UnknownAttributeError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

_RANDOM_TERMS = "random effects stand in the formula: '... + (1 | group)', '... + (x | group)'"
_GENERALISED = (
    "lmer fits normal responses: for binomial, Poisson and other families write "
    "mfx.glmer(formula, data, family=...)"
)
_SEARCH = "the optimiser is chosen by engine=, and its limits by control=mixedfx.Control(...)"
_BY_GLMER = "generalised models are fitted by mixedfx.glmer(formula, data, family=...)"

FIT_ARGUMENTS: Mapping[str, str] = {
    "REML": "write reml=True or reml=False",
    "groups": _RANDOM_TERMS,
    "group": _RANDOM_TERMS,
    "re_formula": _RANDOM_TERMS,
    "vc_formula": _RANDOM_TERMS,
    "exog_re": _RANDOM_TERMS,
    "random": _RANDOM_TERMS,
    "weight": "write weights=",
    "family": _GENERALISED,
    "link": _GENERALISED,
    "nAGQ": _GENERALISED,
    "cov_type": (
        "standard errors are those of the model; fit.get_robustcov_results('CR2') has robust ones, "
        "and where residual variances differ, write weights=, residual_sd= or dispersion="
    ),
    "method": f"for REML or maximum likelihood write reml=True or reml=False; {_SEARCH}",
    "optimizer": _SEARCH,
    "maxiter": _SEARCH,
    "tol": _SEARCH,
    "dispformula": "write dispersion='~ ...'",
    "subset": "give the rows, as data[data['x'] > 0]",
    "na_action": "rows with a missing value in a used column are left out, and counted in notes",
    "missing": "rows with a missing value in a used column are left out, and counted in notes",
    "contrasts": "write the coding into the formula: C(f, Sum)",
    "start_params": "write start=, values of theta",
    "df": "the table is the second argument, data",
    "verbose": "fit.convergence and fit.notes say how the search went",
}
GENERALIZED_ARGUMENTS: Mapping[str, str] = {
    **{name: advice for name, advice in FIT_ARGUMENTS.items() if name not in ("family", "link")},
    "nAGQ": "write nagq=",
    "method": f"generalised models are fitted by maximum likelihood; {_SEARCH}",
    "REML": "generalised models are fitted by maximum likelihood",
    "reml": "generalised models are fitted by maximum likelihood",
    "exposure": "write offset= the logarithm of the exposure",
    "trials": "write weights= the trials of a proportion, or 'prop(k, n) ~ ...'",
    "size": "write weights= the trials of a proportion, or 'prop(k, n) ~ ...'",
    "engine": "the marginal likelihood has one engine; nagq= says how it integrates",
    "residual_sd": "the family says how the response varies",
    "dispformula": "write dispersion='~ ...'",
    "ziformula": "write zero_inflation='~ ...'",
    "exog_infl": "write zero_inflation='~ ...'",
}
_SEED = dict.fromkeys(("seed", "random_state", "random_seed"), "write rng=")
METHOD_ARGUMENTS: Mapping[str, str] = {
    **_SEED,
    "nsim": "write n=",
    "newdata": "write data=",
    "new_data": "write data=",
    "exog": "write data=",
    "re_form": "write random='all', 'none' or a list of groups",
    "allow_new_levels": "write new_levels='population'",
    "level": "write conf_level=",
    "ddf": "write df_method=",
    "df": "write df_method=",
    "condVar": "write cond_sd=True",
    "newresp": "write y=",
}

EMMEANS_ARGUMENTS: Mapping[str, str] = {
    **METHOD_ARGUMENTS,
    "adjust": "write fit.emmeans(...).contrasts(adjust=...)",
    "method": "write fit.emmeans(...).contrasts(method)",
    "cov_keep": "write at={'x': [0, 1]}",
    "type": "write which='mean' for means on the scale of the response",
    "sigma": "bias_adjust=True takes the variance of the random effects",
}

EFFECTS_ARGUMENTS: Mapping[str, str] = {
    **METHOD_ARGUMENTS,
    "var": "the covariate comes first, as fit.slopes('x', by='f')",
    "specs": "write by=, the variables at whose levels there is a slope each",
    "delta_var": "the step of the derivative needs no choice",
    "newdata": "write data=",
    "type": "write which='mean' or which='linear'",
    "vcov": "standard errors are those of the model; df_method= chooses the degrees of freedom",
    "eps": "the step of the derivative needs no choice",
    "adjust": "write fit.slopes(...).contrasts(adjust=...)",
    "pairwise": "write fit.slopes(...).contrasts()",
}

# Of Results; each is a name there.
ATTRIBUTES: Mapping[str, str] = {
    "fixef": "params",
    "coefficients": "params",
    "coefs": "tidy()",
    "AIC": "aic",
    "BIC": "bic",
    "VarCorr": "varcorr",
    "varcor": "varcorr",
    "logLik": "llf",
    "loglik": "llf",
    "loglike": "llf",
    "fe_pvalues": "pvalues",
    "pvals": "pvalues",
    "p_values": "pvalues",
    "bse_fe": "bse",
    "std_errors": "bse",
    "random_effect": "random_effects",
    "confint": "conf_int()",
    "summary2": "summary()",
    "fitted": "fittedvalues",
    "fitted_values": "fittedvalues",
    "rsquared": "r2",
    "isSingular": "is_singular",
    "df_residual": "df_resid",
    "ngrps": "ngroups",
    "rePCA": "rank_pca()",
    "post_hoc": "emmeans()",
    "lsmeans": "emmeans()",
    "avg_slopes": "slopes",
    "marginal_effects": "slopes",
    "get_margeff": "slopes",
    "avg_comparisons": "comparisons()",
    "avg_predictions": "predictions()",
    "getME": "theta, params and cov_re",
}

# Of Results: what to take instead.
_LINEAR = "predict(which='linear')"
ADVICE: Mapping[str, str] = {
    **{
        f"resid_{kind}": f"residuals('{kind}')"
        for kind in ("response", "pearson", "deviance", "working")
    },
    "deviance_resid": "residuals('deviance')",
    "deviance_residuals": "residuals('deviance')",
    "odds_ratios": "tidy(exponentiate=True)",
    "rate_ratios": "tidy(exponentiate=True)",
    "hazard_ratios": "tidy(exponentiate=True)",
    "mu": "fittedvalues",
    "eta": _LINEAR,
    "linpred": _LINEAR,
    "linear_predictor": _LINEAR,
    "linear_predictors": _LINEAR,
    "link": "family.link",
    "alpha": "family_params['alpha']",
    "phi": "family_params['phi']",
    "overdispersion": "family_params",
    "nagq": "model.spec.residual.nagq",
    "nAGQ": "model.spec.residual.nagq",
    "var_corr": "varcorr",
}

# Of the module.
FUNCTIONS: Mapping[str, str] = {
    "glmm": _BY_GLMER,
    "glmmTMB": _BY_GLMER,
    "clmm": f"{_BY_GLMER}, with family='cumulative'",
    "clm": f"{_BY_GLMER}, with family='cumulative'",
    "polr": f"{_BY_GLMER}, with family='cumulative'",
    "glm": f"{_BY_GLMER}, without random terms too",
    "mixedlm": "models are fitted by mixedfx.lmer(formula, data)",
    "MixedLM": "models are fitted by mixedfx.lmer(formula, data)",
    "Lmer": "models are fitted by mixedfx.lmer(formula, data)",
    "fit": "models are fitted by mixedfx.lmer(formula, data)",
    "lm": "mixedfx.lmer(formula, data) fits formulas without random terms, too",
    "drop1": "take fit.drop1()",
    "step": "take fit.step()",
    "average": "take mixedfx.model_avg([a, b])",
    "averaging": "take mixedfx.model_avg([a, b])",
    "anova": "take fit.anova(), or mixedfx.compare(a, b) for two fits",
    "emmeans": "take fit.emmeans('variable')",
    "ranef": "take fit.ranef()",
    "VarCorr": "take fit.varcorr",
    "load": "take mixedfx.datasets.load(name), or mixedfx.read(path) for a saved fit",
}


def explains_arguments(
    known: Mapping[str, str],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: arguments that it does not have are errors that name the right ones."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        listed = signature.parameters.values()
        names = [p.name for p in listed if p.kind != p.VAR_KEYWORD]
        required = [
            p.name for p in listed if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty
        ]

        @functools.wraps(function)
        def explained(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in names and name in known:
                    raise CallError(
                        f"{function.__name__}() has no argument {name}=: {known[name]}."
                    )
            missing = [name for name in required[len(args) :] if name not in kwargs]
            if missing:
                needed = ", ".join(name for name in required if name != "self")
                call = f"{function.__name__}({needed})"
                raise CallError(
                    f"{function.__name__}() needs {' and '.join(missing)}: write {call}."
                )
            return function(*args, **kwargs)

        return explained

    return decorate


def check_options(function: str, options: Mapping[str, Any], accepted: Mapping[str, Any]) -> None:
    """Raise for keyword arguments that a function does not pass on."""
    for name in options:
        if name not in accepted:
            hint = did_you_mean(name, accepted)
            raise CallError(f"{function}() got an unexpected keyword argument {name!r}.{hint}")


def missing_attribute(owner: object, name: str) -> AttributeError:
    """Error for a name that a fit does not have."""
    kind = type(owner).__name__
    text = f"'{kind}' object has no attribute '{name}'"
    if name.startswith("_"):  # asked for by protocols, in large numbers
        return AttributeError(text, name=name, obj=owner)
    if name in ATTRIBUTES:
        return UnknownAttributeError(f"{text}; here it is {ATTRIBUTES[name]}.")
    if name in ADVICE:
        return UnknownAttributeError(f"{text}; take fit.{ADVICE[name]}.")
    public = [other for other in dir(type(owner)) if not other.startswith("_")]
    return UnknownAttributeError(f"{text}.{did_you_mean(name, public)}")


def missing_function(name: str) -> AttributeError:
    """Error for a name that the module does not have."""
    text = f"module 'mixedfx' has no attribute '{name}'"
    if name in FUNCTIONS:
        return UnknownAttributeError(f"{text}: {FUNCTIONS[name]}.")
    return AttributeError(text)
