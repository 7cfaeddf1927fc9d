"""Correlations of random effects at posterior draws."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.unconstrained import ConstrainedParameters
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.spec import RandomTermSpec

Vector = npt.NDArray[np.float64]


def correlation_draws(
    terms: Sequence[RandomTermSpec], params: ConstrainedParameters
) -> list[tuple[str, Vector]]:
    """Names and draws of the correlations of the unstructured terms."""
    found = []
    for term, factor, sds in zip(terms, params.cov_factors, params.sds, strict=True):
        if not STRUCTURES[term.formula_term.structure].correlated:
            continue
        for i, j in itertools.combinations(range(len(sds)), 2):
            product, covariance = sds[i] * sds[j], np.einsum("cb,cb->b", factor[i], factor[j])
            values = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0.0)
            names = term.effect_names
            found.append((f"{names[i]}, {names[j]} | {term.group}", values))
    return found
