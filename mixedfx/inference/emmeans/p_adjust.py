"""P-values and intervals of a family of contrasts, adjusted for multiplicity.

An adjustment gives each contrast a p-value for the family, and a critical value: the half-width
of simultaneous intervals in standard errors. The false discovery rate has no simultaneous
intervals; those of single contrasts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx._cached import cached_property
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.inference import wald
from mixedfx.inference.emmeans.multivariate_t import LargestT
from mixedfx.inference.emmeans.studentized_range import studentized_range_tail
from mixedfx.inference.false_discovery import false_discovery_rates

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

Adjust = Literal[
    "tukey", "holm", "bonferroni", "sidak", "mvt", "dunnettx", "scheffe", "fdr", "none"
]
ADJUSTMENTS: tuple[Adjust, ...] = get_args(Adjust)

# Different degrees of freedom that are solved for one by one; degree of the interpolant for more.
_MANY, _DEGREE = 16, 9


def resolve_adjustment(default: Adjust, adjust: Adjust | None, *, all_pairs: bool) -> Adjust:
    """Validate an adjustment, or take the default one of a method of contrasts."""
    if adjust is None:
        return default
    check_choice("adjust", adjust, ADJUSTMENTS)
    if adjust == "tukey" and not all_pairs:
        raise ArgumentError(
            "adjust='tukey' is for all pairs of means; take adjust='sidak' for other contrasts "
            "(emmeans changes it to that), or 'mvt', which is exact for any."
        )
    return adjust


@dataclass(frozen=True)
class ContrastFamily:
    """Tests of the estimable contrasts of a family."""

    p: Vector
    t: Vector  # absolute values
    df: Vector
    k: int  # means that are compared
    correlation: Matrix

    @property
    def m(self) -> int:
        """Number of contrasts."""
        return len(self.p)

    @cached_property
    def largest(self) -> LargestT:
        """Distribution of the largest statistic."""
        return LargestT.of(self.correlation)

    @property
    def rank(self) -> int:
        """Number of independent contrasts."""
        return int(np.linalg.matrix_rank(self.correlation, tol=1e-9 * self.m, hermitian=True))

    @property
    def equivalent_means(self) -> float:
        """Number of means of which there are so many pairs."""
        return (1.0 + math.sqrt(1.0 + 8.0 * self.m)) / 2.0

    @property
    def n_pairs(self) -> int:
        """Number of pairs of the means."""
        return math.comb(self.k, 2)

    def bonferroni_quantile(self, conf_level: float, m: int | None = None) -> Vector:
        """Half-widths by Bonferroni's inequality, for ``m`` contrasts or those there are."""
        return wald.t_quantile(1.0 - (1.0 - conf_level) / (2.0 * (m or self.m)), self.df)

    def t_quantile(self, conf_level: float) -> Vector:
        """Half-widths of single intervals."""
        return wald.t_quantile(0.5 + conf_level / 2.0, self.df)

    def solve(self, tail: Callable[[float, float], float], conf_level: float, m: int) -> Vector:
        """Half-widths at which a tail is ``1 - conf_level``, up to Bonferroni's for ``m``."""
        from scipy.optimize import brentq

        alpha = 1.0 - conf_level
        if m == 1:
            return self.t_quantile(conf_level)

        def at(df: float) -> float:
            ends = 1.0 - alpha / 2.0, 1.0 - alpha / (2.0 * m)
            low, high = (float(wald.t_quantile(end, np.array(df))) for end in ends)

            def excess(q: float) -> float:
                return tail(q, df) - alpha

            return float(brentq(excess, 0.99 * low, 1.01 * high, xtol=1e-12))

        # In balanced designs all degrees of freedom are equal but for rounding: solve once.
        df, inverse = np.unique(np.round(self.df, 8), return_inverse=True)
        if len(df) <= _MANY or not np.isfinite(df).all():
            return np.array([at(one) for one in df.tolist()])[inverse]
        # The half-width is smooth in 1 / df: of many it is interpolated.
        smooth = np.polynomial.Chebyshev.interpolate(
            lambda x: np.array([at(1.0 / one) for one in x.tolist()]), _DEGREE, 1.0 / df[[-1, 0]]
        )
        return np.asarray(smooth(1.0 / df)[inverse])


def adjust_family(
    contrasts: pd.DataFrame,
    adjust: Adjust,
    *,
    k: int,
    conf_level: float,
    correlation: Callable[[npt.NDArray[np.bool_]], Matrix],
) -> pd.DataFrame:
    """
    Adjust the p-values and intervals of one family of contrasts of ``k`` means.

    ``correlation`` gives the correlations of some of the estimates.

    References
    ----------
    .. [1] Tukey (1953), The problem of multiple comparisons; Kramer (1956), Biometrics 12:307,
       for unequal standard errors.
    .. [2] Holm (1979), Scand. J. Stat. 6:65. Benjamini and Hochberg (1995), J. R. Stat. Soc. B
       57:289. Scheffe (1953), Biometrika 40:87. Dunnett (1955), J. Am. Stat. Assoc. 50:1096.
    """
    tested = contrasts["p_value"].notna().to_numpy()
    if adjust == "none" or not tested.any():
        return contrasts
    column = {name: contrasts[name].to_numpy(dtype=float)[tested] for name in contrasts.columns}
    family = ContrastFamily(
        column["p_value"], np.abs(column["statistic"]), column["df"], k, correlation(tested)
    )
    p = np.clip(_P_VALUES[adjust](family), family.p, np.minimum(1.0, _MOST[adjust](family)))
    half = column["std_error"] * _HALF_WIDTHS[adjust](family, conf_level)
    result = contrasts.copy()
    result.loc[tested, "p_value"] = p
    result.loc[tested, "conf_low"] = column["estimate"] - half
    result.loc[tested, "conf_high"] = column["estimate"] + half
    return result


# ---------------------------------------------------------------- p-values


def _tukey(family: ContrastFamily) -> Vector:
    pairs = zip(family.t * math.sqrt(2.0), family.df, strict=True)
    return np.array([studentized_range_tail(q, family.k, df) for q, df in pairs])


def _dunnettx(family: ContrastFamily) -> Vector:
    pairs = zip(family.t, family.df, strict=True)
    return np.array([_dunnettx_tail(family, t, df) for t, df in pairs])


def _dunnettx_tail(family: ContrastFamily, t: float, df: float) -> float:
    """Emmeans' approximation for comparisons with one mean: between Tukey's and Sidak's."""
    share = (family.m - 1.0) / family.m
    range_tail = studentized_range_tail(math.sqrt(2.0) * t, family.equivalent_means, df)
    single = float(wald.t_p_value(np.array([t]), np.array([df]))[0])
    return share * range_tail + (1.0 - share) * float(_sidak_tail(np.array(single), family.m))


def _mvt(family: ContrastFamily) -> Vector:
    pairs = zip(family.t, family.df, strict=True)
    return np.array([family.largest.tail(float(t), float(df)) for t, df in pairs])


def _scheffe(family: ContrastFamily) -> Vector:
    pairs = zip(family.t, family.df, strict=True)
    rank = family.rank
    return np.array([wald.f_p_value(t * t / rank, rank, df) for t, df in pairs])


def _sidak_tail(p: Vector, m: int) -> Vector:
    with np.errstate(divide="ignore"):  # a p-value of one
        return np.asarray(-np.expm1(m * np.log1p(-p)))


def _holm(family: ContrastFamily) -> Vector:
    order, p_values = np.argsort(family.p), np.empty(family.m)
    p_values[order] = np.maximum.accumulate(family.p[order] * np.arange(family.m, 0, -1))
    return p_values


_P_VALUES: dict[str, Callable[[ContrastFamily], Vector]] = {
    "tukey": _tukey,
    "holm": _holm,
    "bonferroni": lambda family: family.m * family.p,
    "sidak": lambda family: _sidak_tail(family.p, family.m),
    "mvt": _mvt,
    "dunnettx": _dunnettx,
    "scheffe": _scheffe,
    "fdr": lambda family: false_discovery_rates(family.p),
}


# Bounds: small upper tails are rounding, and Bonferroni's inequality holds.
_MOST: dict[str, Callable[[ContrastFamily], Vector]] = {
    **dict.fromkeys(_P_VALUES, lambda family: np.ones(family.m)),
    "tukey": lambda family: family.n_pairs * family.p,
    "mvt": lambda family: family.m * family.p,
}


# ---------------------------------------------------------------- half-widths of intervals


def _tukey_width(family: ContrastFamily, conf_level: float) -> Vector:
    def tail(q: float, df: float) -> float:
        return studentized_range_tail(math.sqrt(2.0) * q, family.k, df)

    return family.solve(tail, conf_level, family.n_pairs)


def _scheffe_width(family: ContrastFamily, conf_level: float) -> Vector:
    rank = family.rank
    inf = np.isinf(family.df)
    with np.errstate(invalid="ignore"):
        finite = special.fdtri(rank, np.where(inf, 1.0, family.df), conf_level)
    limit = special.chdtri(rank, 1.0 - conf_level) / rank
    return np.asarray(np.sqrt(rank * np.where(inf, limit, finite)))


_HALF_WIDTHS: dict[str, Callable[[ContrastFamily, float], Vector]] = {
    "tukey": _tukey_width,
    "holm": ContrastFamily.bonferroni_quantile,
    "bonferroni": ContrastFamily.bonferroni_quantile,
    "sidak": lambda family, level: family.t_quantile(level ** (1.0 / family.m)),
    "mvt": lambda family, level: family.solve(family.largest.tail, level, family.m),
    "dunnettx": lambda family, level: family.solve(
        lambda q, df: _dunnettx_tail(family, q, df), level, family.m
    ),
    "scheffe": _scheffe_width,
    "fdr": ContrastFamily.t_quantile,
}
