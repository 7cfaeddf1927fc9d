"""P-values and intervals of a family of contrasts, adjusted for multiplicity.

An adjustment gives each contrast a p-value for the family, and a critical value: the half-width
of simultaneous intervals in standard errors. The false discovery rate has no simultaneous
intervals; those of single contrasts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.inference import wald
from mixedfx.inference.emmeans.studentized_range import studentized_range_tail

Vector = npt.NDArray[np.float64]

Adjust = Literal["tukey", "holm", "bonferroni", "sidak", "fdr", "none"]
ADJUSTMENTS: tuple[Adjust, ...] = ("tukey", "holm", "bonferroni", "sidak", "fdr", "none")


def resolve_adjustment(method: str | Mapping[str, Any], adjust: Adjust | None) -> Adjust:
    """Validate an adjustment, or take the default one of a method of contrasts."""
    all_pairs = isinstance(method, str) and method in ("pairwise", "revpairwise")
    if adjust is None:
        if all_pairs:
            return "tukey"
        return "none" if method == "poly" or isinstance(method, Mapping) else "holm"
    check_choice("adjust", adjust, ADJUSTMENTS)
    if adjust == "tukey" and not all_pairs:
        raise ArgumentError(
            "adjust='tukey' is for all pairs of means; take adjust='sidak' for other contrasts "
            "(emmeans changes it to that)."
        )
    return adjust


def adjust_family(
    contrasts: pd.DataFrame, adjust: Adjust, *, k: int, conf_level: float
) -> pd.DataFrame:
    """
    Adjust the p-values and intervals of one family of contrasts of ``k`` means.

    References
    ----------
    .. [1] Tukey (1953), The problem of multiple comparisons; Kramer (1956), Biometrics 12:307,
       for unequal standard errors.
    .. [2] Holm (1979), Scand. J. Stat. 6:65. Benjamini and Hochberg (1995), J. R. Stat. Soc. B
       57:289.
    """
    tested = contrasts["p_value"].notna().to_numpy()
    if adjust == "none" or not tested.any():
        return contrasts
    column = {name: contrasts[name].to_numpy(dtype=float)[tested] for name in contrasts.columns}
    p = _adjusted_p_values(adjust, column["p_value"], column["statistic"], column["df"], k)
    half = column["std_error"] * _critical_values(adjust, column["df"], k, conf_level)
    result = contrasts.copy()
    result.loc[tested, "p_value"] = p
    result.loc[tested, "conf_low"] = column["estimate"] - half
    result.loc[tested, "conf_high"] = column["estimate"] + half
    return result


def _adjusted_p_values(adjust: Adjust, p: Vector, t: Vector, df: Vector, k: int) -> Vector:
    m = len(p)
    if adjust == "tukey":
        # Small upper tails are rounding: p and Bonferroni's p are bounds.
        bonferroni = np.minimum(1.0, math.comb(k, 2) * p)
        return np.clip(_studentized_range_tail(np.abs(t), k, df), p, bonferroni)
    if adjust == "sidak":
        with np.errstate(divide="ignore"):  # a p-value of one
            return np.asarray(-np.expm1(m * np.log1p(-p)))
    if adjust == "bonferroni":
        return np.minimum(1.0, m * p)
    order = np.argsort(p)
    if adjust == "holm":
        steps = np.maximum.accumulate(p[order] * np.arange(m, 0, -1))
    else:
        steps = np.minimum.accumulate((p[order] * m / np.arange(1, m + 1))[::-1])[::-1]
    p_values = np.empty(m)
    p_values[order] = np.minimum(1.0, steps)
    return np.maximum(p_values, p)  # m p / m is not p to the last digit


def _critical_values(adjust: Adjust, df: Vector, k: int, conf_level: float) -> Vector:
    """Half-widths of the intervals in standard errors, (m,)."""
    m = len(df)
    if adjust == "tukey":
        return _studentized_range_quantile(conf_level, k, df)
    level = {
        "bonferroni": 1.0 - (1.0 - conf_level) / m,
        "holm": 1.0 - (1.0 - conf_level) / m,
        "sidak": conf_level ** (1.0 / m),
    }.get(adjust, conf_level)
    return wald.t_quantile(0.5 + level / 2.0, df)


def _studentized_range_tail(t: Any, k: int, df: Any) -> Vector:
    """Probability that some pair of ``k`` independent means has a t statistic above ``t``."""
    q, df = np.broadcast_arrays(math.sqrt(2.0) * np.asarray(t, dtype=float), df)
    pairs = zip(q.ravel().tolist(), df.ravel().tolist(), strict=True)
    return np.reshape([studentized_range_tail(a, k, b) for a, b in pairs], q.shape)


def _studentized_range_quantile(conf_level: float, k: int, df: Vector) -> Vector:
    """Solve for the quantile, between that of one pair and Bonferroni's for all pairs."""
    from scipy.optimize import brentq

    low = wald.t_quantile(0.5 + conf_level / 2.0, df)
    if k == 2:
        return low
    high = wald.t_quantile(1.0 - (1.0 - conf_level) / (2.0 * math.comb(k, 2)), df)
    # In balanced designs all degrees of freedom are equal but for rounding: solve once for each.
    _, first, inverse = np.unique(np.round(df, 8), return_index=True, return_inverse=True)
    quantiles = [
        brentq(
            lambda q, i=i: float(_studentized_range_tail(q, k, df[i])) - (1.0 - conf_level),
            0.999 * low[i],
            1.001 * high[i],
            xtol=1e-12,
        )
        for i in first
    ]
    return np.array(quantiles)[inverse]
