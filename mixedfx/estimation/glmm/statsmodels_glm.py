"""statsmodels' GLM of a generalised model without random terms, started at our estimates.

Its log-likelihood is an independent computation of the same number. Prior weights of counts are
statsmodels' ``freq_weights``, which multiply the log-likelihood, and those of continuous responses
``var_weights``, which divide the dispersion; alpha and the dispersion are held at our estimates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.mixedlm_model import import_module
from mixedfx.estimation.model_spec import attach_formula
from mixedfx.families.family import Family
from mixedfx.families.statsmodels import FAMILIES

Vector = npt.NDArray[np.float64]

_TOLERANCE = 1e-12


def glm_result(design: Design, params: Vector, beta: Vector) -> Any:
    """Result of ``sm.GLM``; EngineRefusal where statsmodels has no such fit."""
    spec, rows = design.spec, design.rows
    family = spec.family
    check_expressible(design)
    X = pd.DataFrame(np.array(rows.X), index=rows.index, columns=list(spec.X_names))
    glm = import_module("genmod.generalized_linear_model")
    model = glm.GLM(
        _response(design),
        X,
        family=family.statsmodels_family(params),
        offset=None if rows.offset is None else np.array(rows.offset),
        **_weights(family, rows.weights),
    )
    return attach_formula(model, spec).fit(
        start_params=np.array(beta), tol=_TOLERANCE, scale=family.scale(params)
    )


def check_expressible(design: Design) -> None:
    """Refuse random terms, and a family that statsmodels does not have."""
    spec = design.spec
    refused = f"statsmodels cannot fit {spec.formula}"
    if spec.random_terms:
        raise EngineRefusal(
            f"{refused}: it has no maximum likelihood fit of generalised models with random "
            "effects (its BinomialBayesMixedGLM and PoissonBayesMixedGLM approximate a "
            "posterior). A formula without random terms has fit.statsmodels."
        )
    if spec.family.name not in FAMILIES:
        listed = ", ".join(f"family='{name}'" for name in FAMILIES)
        raise EngineRefusal(
            f"{refused} by GLM: it has no family '{spec.family.name}'. Those that it has: {listed}."
        )


def _response(design: Design) -> pd.Series | pd.DataFrame:
    """Response, or successes and failures."""
    rows, name = design.rows, design.spec.formula.response_name
    y = pd.Series(np.array(rows.y), index=rows.index, name=name)
    if not design.spec.family.takes_trials or rows.weights is None:
        return y
    successes = np.rint(rows.y * rows.weights)
    return pd.DataFrame(
        {"successes": successes, "failures": rows.weights - successes}, index=rows.index
    )


def _weights(family: Family, weights: Vector | None) -> dict[str, Vector]:
    if weights is None or family.takes_trials:
        return {}
    return {"freq_weights" if family.discrete else "var_weights": np.array(weights)}
