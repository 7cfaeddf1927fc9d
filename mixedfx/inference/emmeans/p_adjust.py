"""A family of contrasts, each with its own p-value and interval, to those of the whole family.

Of many comparisons some look large by chance. An adjustment is two things: a p-value for each
contrast that allows for the others, and a critical value, how many standard errors an interval
reaches so that the level holds for all together. The false discovery rate has the first only,
and its intervals are those of each contrast alone.

Nothing here knows how the contrasts were estimated: only their table, and how many means there
are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import integrate, optimize

from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.inference import wald

Vector = npt.NDArray[np.float64]

Adjust = Literal["tukey", "holm", "bonferroni", "sidak", "fdr", "none"]
ADJUSTMENTS: tuple[Adjust, ...] = ("tukey", "holm", "bonferroni", "sidak", "fdr", "none")


def adjustment_for(method: str | Mapping[str, Any], adjust: Adjust | None) -> Adjust:
    """Find how contrasts of a kind are adjusted."""
    pairs = method in ("pairwise", "revpairwise") if isinstance(method, str) else False
    if adjust is None:
        if pairs:
            return "tukey"
        return "none" if method == "poly" or isinstance(method, Mapping) else "holm"
    expect_choice("adjust", adjust, ADJUSTMENTS)
    if adjust == "tukey" and not pairs:
        raise ArgumentError(
            "adjust='tukey' is for all pairs of means; take adjust='sidak' for other contrasts "
            "(emmeans changes it to that)."
        )
    return adjust


def adjusted(found: pd.DataFrame, adjust: Adjust, *, k: int, conf_level: float) -> pd.DataFrame:
    """
    Adjust the p-values and intervals of one family of contrasts.

    References
    ----------
    .. [1] Tukey (1953), The problem of multiple comparisons; Kramer (1956), Biometrics 12:307,
       for unequal standard errors.
    .. [2] Holm (1979), Scand. J. Stat. 6:65. Benjamini and Hochberg (1995), J. R. Stat. Soc. B
       57:289.
    """
    tested = found["p_value"].notna().to_numpy()
    if adjust == "none" or not tested.any():
        return found
    column = {name: found[name].to_numpy(dtype=float)[tested] for name in found.columns}
    p = _adjusted_p(adjust, column["p_value"], column["statistic"], column["df"], k)
    half = column["std_error"] * _critical(adjust, column["df"], k, conf_level)
    changed = found.copy()
    changed.loc[tested, "p_value"] = p
    changed.loc[tested, "conf_low"] = column["estimate"] - half
    changed.loc[tested, "conf_high"] = column["estimate"] + half
    return changed


def _adjusted_p(adjust: Adjust, p: Vector, t: Vector, df: Vector, k: int) -> Vector:
    m = len(p)
    if adjust == "tukey":
        # The tail is a difference from one: where that is rounding, its bounds say more.
        most = np.minimum(1.0, math.comb(k, 2) * p)
        return np.clip(_range_tail(np.abs(t), k, df), p, most)
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
    changed = np.empty(m)
    changed[order] = np.minimum(1.0, steps)
    return changed


def _critical(adjust: Adjust, df: Vector, k: int, conf_level: float) -> Vector:
    """Half-widths of intervals, in standard errors."""
    m = len(df)
    if adjust == "tukey":
        return _range_quantile(conf_level, k, df)
    level = {
        "bonferroni": 1.0 - (1.0 - conf_level) / m,
        "holm": 1.0 - (1.0 - conf_level) / m,
        "sidak": conf_level ** (1.0 / m),
    }.get(adjust, conf_level)
    return wald.t_quantile(0.5 + level / 2.0, df)


def _range_tail(t: Any, k: int, df: Any) -> Vector:
    """Probability that some pair of ``k`` independent means differs by more than ``t``."""
    from scipy.stats import studentized_range  # takes a third of a second to import

    with warnings.catch_warnings():  # below one degree of freedom, of the last digits
        warnings.simplefilter("ignore", integrate.IntegrationWarning)
        return np.asarray(studentized_range.sf(math.sqrt(2.0) * t, k, df))


def _range_quantile(conf_level: float, k: int, df: Vector) -> Vector:
    """Solve for the difference that no pair exceeds, between those of one and of all pairs."""
    low = wald.t_quantile(0.5 + conf_level / 2.0, df)
    if k == 2:
        return low
    high = wald.t_quantile(1.0 - (1.0 - conf_level) / (2.0 * math.comb(k, 2)), df)
    # Contrasts of a balanced design have the same degrees of freedom but for rounding.
    _, first, which = np.unique(np.round(df, 8), return_index=True, return_inverse=True)
    solved = [
        optimize.brentq(
            lambda q, i=i: float(_range_tail(q, k, df[i])) - (1.0 - conf_level),
            0.999 * low[i],
            1.001 * high[i],
            xtol=1e-12,
        )
        for i in first
    ]
    return np.array(solved)[which]
