"""Estimated marginal means of the fixed part, and their contrasts.

A marginal mean is the fixed part of the linear predictor on a reference grid of all combinations
of the factors' levels, with covariates at one value, averaged with equal weights over the
variables other than ``specs`` and ``by``: ``m'beta`` with ``m`` the mean of rows of ``X`` (Searle,
Speed and Milliken 1980). It does not depend on the sizes of the cells in the data.
Definitions and defaults are those of R's emmeans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx._deprecation import renamed_attribute
from mixedfx.design.checks import independent_columns
from mixedfx.errors import ArgumentError, check_choice, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import wald
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.contrast_table import contrast_table
from mixedfx.inference.emmeans.contrasts import (
    METHODS,
    Method,
    check_two_means,
    contrast_coefficients,
)
from mixedfx.inference.emmeans.display import Captions, mean_labels, means_html, means_text
from mixedfx.inference.emmeans.linear_functions import (
    LinearFunctions,
    column_rms,
    estimate_functions,
    linear_functions,
)
from mixedfx.inference.emmeans.means_formula import means_request
from mixedfx.inference.emmeans.nesting import (
    Nesting,
    cell_weights,
    factor_nesting,
    occurring,
    shown_names,
)
from mixedfx.inference.emmeans.notes import mean_notes
from mixedfx.inference.emmeans.p_adjust import Adjust, adjust_family, resolve_adjustment
from mixedfx.inference.emmeans.reference_grid import (
    Variable,
    fixed_variables,
    grid_levels,
    group_slices,
    reference_grid,
)
from mixedfx.inference.emmeans.scale import LinkScale, exponentiated, scale_of

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False, eq=False)
class EMMeans:
    """
    Estimated marginal means, as returned by ``fit.emmeans()``.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per mean: a column for each variable of ``by`` and ``specs`` with its level, then
        ``emmean std_error df conf_low conf_high``. The first of several variables varies
        fastest, and those of ``by`` slowest. NaN for means that are not estimable.
    specs, by : tuple of str
        The variables whose levels have a mean each; those of ``by`` split the contrasts.
    averaged_over : tuple of str
        The variables that are averaged over, each level or value with the same weight.
    fixed_at : mapping
        From the other variables to their one value: the mean of a covariate, or that of ``at``.
    conf_level : float
        Coverage of the intervals of the means.
    method : str or None
        How ``contrasts()`` compares the means unless told: the left side of a formula such as
        ``"pairwise ~ a"``. If there is one, printing shows the contrasts below the means.
    notes : tuple of str
        Caveats: nested factors, means that are not estimable, interactions with
        variables averaged over, and the degrees of freedom of a singular fit.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.inference.denominator_df import denominator_df
    >>> cake = mfx.datasets.load("cake")
    >>> fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake).model
    >>> means = emmeans(fit, denominator_df(fit, "satterthwaite"), "recipe")
    >>> means
    recipe emmean std_error   df conf_low conf_high
    A      33.122    1.7368 42.0   29.617    36.627
    B      31.644    1.7368 42.0   28.139    35.150
    C      31.600    1.7368 42.0   28.095    35.105
    <BLANKLINE>
    Held at: temp = 200. Degrees of freedom: satterthwaite. Confidence level: 0.95.
    >>> means.contrasts()[["contrast", "estimate", "p_value"]].round(4)
      contrast  estimate  p_value
    0    A - B    1.4778   0.8200
    1    A - C    1.5222   0.8102
    2    B - C    0.0444   0.9998
    """

    table: pd.DataFrame
    specs: tuple[str, ...]
    by: tuple[str, ...]
    averaged_over: tuple[str, ...]
    fixed_at: Mapping[str, Any]
    conf_level: float
    method: Method | None
    notes: tuple[str, ...]
    _fit: FittedModel = field(repr=False)
    _ddf: DenominatorDf = field(repr=False)
    _functions: LinearFunctions = field(repr=False)
    _groups: tuple[slice, ...] = field(repr=False)  # rows of each combination of ``by``'s levels
    _scale: LinkScale = field(repr=False)

    def __post_init__(self) -> None:
        """Raise if a method is to compare one mean."""
        if self.method is not None:
            self._compared_groups(self.method)

    averaged = renamed_attribute("EMMeans", "averaged", "averaged_over")
    held = renamed_attribute("EMMeans", "held", "fixed_at")

    @property
    def rows(self) -> Matrix:
        """Coefficients of the means over the columns of ``X``; NaN where not estimable."""
        estimable = self._functions.estimable[:, None]
        rows = np.where(estimable, self._functions.rows, np.nan)
        set_readonly(rows)
        return rows

    def contrasts(
        self,
        method: Method | Mapping[str, Sequence[float]] | None = None,
        *,
        which: Literal["linear", "mean"] | None = None,
        adjust: Adjust | None = None,
        conf_level: float | None = None,
    ) -> pd.DataFrame:
        """
        Compare the means, within each level of ``by``.

        Parameters
        ----------
        method : str or mapping of str to sequence of float, optional
            ``"pairwise"``: all differences, earlier less later; ``"revpairwise"``: later less
            earlier; ``"trt.vs.ctrl"``: each less the first; ``"consec"``: each less the one
            before; ``"eff"``: each less the mean of the means; ``"poly"``: orthogonal
            polynomials over equal steps, in the integers of published tables; or a mapping
            from labels to a coefficient for each mean. Without it the method of the formula of
            the means, or ``"pairwise"``.
        which : {"linear", "mean"}, optional
            ``"linear"``: differences of the linear predictor. ``"mean"``: their exponentials where
            these are ratios and the coefficients sum to zero: odds ratios of a logit link, hazard
            ratios of a complementary log-log, ratios of means of a log; differences of the linear
            predictor of other links, as in emmeans. By default that of the means.
        adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}, optional
            Adjustment for multiplicity within each level of ``by``. Without it
            ``"tukey"`` for all pairs, ``"none"`` for polynomials and for coefficients given,
            ``"holm"`` for the others (emmeans approximates the multivariate t distribution
            there, and takes ``"fdr"`` for ``"eff"``).
        conf_level : float, optional
            Coverage of the intervals, that of the means without it. Tukey's, Bonferroni's and
            Sidak's hold for all of a family together; Holm's has Bonferroni's intervals, and
            those of ``"fdr"`` and ``"none"`` are not adjusted.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by``, then ``contrast estimate std_error df statistic p_value
            conf_low conf_high``; ratios are called ``odds_ratio``, ``hazard_ratio`` or ``ratio``
            instead of ``estimate``, and have the tests of the differences. NaN for contrasts that
            are not estimable; a contrast can be estimable although its means are not. It is printed
            with its adjustment and for how many contrasts that is, which ``attrs`` has, too.

        Raises
        ------
        ArgumentError
            If a choice is unknown; coefficients are not one for each mean; there is one mean
            only; or Tukey's adjustment is asked for other contrasts than all pairs.

        References
        ----------
        .. [1] Tukey (1953), The problem of multiple comparisons; Kramer (1956), Biometrics
           12:307, for unequal standard errors.
        .. [2] Holm (1979), Scand. J. Stat. 6:65. Benjamini and Hochberg (1995), J. R. Stat.
           Soc. B 57:289.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> from mixedfx.inference.denominator_df import denominator_df
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).model
        >>> ddf = denominator_df(fit, "kenward-roger")
        >>> means = emmeans(fit, ddf, "Days", at={"Days": [0, 5, 9]})
        >>> means.contrasts("consec")[["contrast", "estimate", "df"]].round(2)
                contrast  estimate    df
        0  Days5 - Days0     52.34  17.0
        1  Days9 - Days5     41.87  17.0
        """
        if conf_level is None:
            conf_level = self.conf_level
        check_share("conf_level", conf_level)
        method = (self.method or "pairwise") if method is None else method
        if not isinstance(method, Mapping):
            check_choice("method", method, METHODS)
        all_names = mean_labels(self.table, self.specs)
        adjustment = resolve_adjustment(method, adjust)
        scale = self._scale if which is None else scale_of(self._fit, which)
        groups, families = self._compared_groups(method), []
        ratio = None
        for group in groups:
            labels, coefficients = contrast_coefficients(method, all_names[group])
            ratio = scale.ratio_name(coefficients)
            functions = self._functions.select(group).combine(coefficients)
            family = estimate_functions(self._fit, self._ddf, functions, conf_level)
            size = group.stop - group.start
            family = adjust_family(family, adjustment, k=size, conf_level=conf_level)
            if ratio is not None:
                labels, _ = contrast_coefficients(method, all_names[group], sign="/")
                family = exponentiated(family, ratio)
            family.insert(0, "contrast", labels)
            families.append(self._insert_by(family, group.start))
        sizes = [group.stop - group.start for group in groups]
        remark = scale.contrast_remark(ratio)
        return contrast_table(families, sizes, adjustment, remark=remark)

    def joint(self) -> pd.DataFrame:
        """
        Test that the means within each level of ``by`` are all equal.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by``, then ``F num_df den_df p_value``, of the estimable
            differences; NaN if there are none. The degrees of freedom of the
            denominator are those of the differences from the first mean together (emmeans takes
            the least of theirs one by one).

        Raises
        ------
        ArgumentError
            If there is one mean only.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> from mixedfx.inference.denominator_df import denominator_df
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", cake).model
        >>> emmeans(fit, denominator_df(fit, "satterthwaite"), "temperature").joint().round(2)
               F  num_df  den_df  p_value
        0  20.52     5.0   210.0      0.0
        """
        size = column_rms(self._fit)
        tests = []
        for group in self._compared_groups("pairwise"):
            n_differences = group.stop - group.start - 1
            from_first = np.column_stack([-np.ones(n_differences), np.eye(n_differences)])
            rows = self._functions.select(group).combine(from_first).estimable_rows()
            rows = rows[independent_columns((rows * size).T)]
            test = pd.Series(np.nan, index=["F", "num_df", "den_df", "p_value"])
            if len(rows):
                equal = Constraints(rows, np.zeros(len(rows)), ("equal means",) * len(rows))
                test = wald.f_test(self._fit, self._ddf, equal)
            tests.append(self._insert_by(test.to_frame().T.reset_index(drop=True), group.start))
        return pd.concat(tests, ignore_index=True)

    def _compared_groups(self, method: Any) -> list[slice]:
        """Groups of means that are compared: all but nests of one level."""
        if isinstance(method, Mapping):
            return list(self._groups)
        check_two_means(max(group.stop - group.start for group in self._groups))
        return [group for group in self._groups if group.stop - group.start > 1]

    def _insert_by(self, table: pd.DataFrame, start: int) -> pd.DataFrame:
        """Insert the levels of ``by`` of one group as the first columns."""
        for position, name in enumerate(self.by):
            table.insert(position, name, [self.table[name].iloc[start]] * len(table))
        return table

    def _shown(self) -> tuple[pd.DataFrame, Captions, tuple[str, pd.DataFrame] | None]:
        """The table, what is said of it, and the contrasts that a formula asks for."""
        captions = Captions(
            self._scale.caption,
            self.averaged_over,
            self.fixed_at,
            self._ddf.name,
            self.conf_level,
            self.notes,
        )
        compared = None if self.method is None else (self.method, self.contrasts())
        return self.table, captions, compared

    def __str__(self) -> str:
        """Text of the table with its captions."""
        return means_text(*self._shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """HTML of the same."""
        return means_html(*self._shown())


def emmeans(
    fit: FittedModel,
    ddf: DenominatorDf,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    nesting: str | Mapping[str, Any] | None = "auto",
    conf_level: float = 0.95,
) -> EMMeans:
    """
    Estimate the marginal means of the levels of some variables.

    Covariates are at the mean of the rows used, unweighted, before any transformation:
    ``np.log(x)`` is at the logarithm of the mean. As with emmeans' ``cov.keep = 2``, a covariate of
    two values takes both. The mean of an offset is part of the means.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980), Population marginal means in the linear model,
       Am. Stat. 34:216.
    .. [2] Lenth, emmeans: estimated marginal means, aka least-squares means (R package),
       version 1.8.4.
    """
    check_share("conf_level", conf_level)
    grid_variables = _grid_variables(fit)
    request = means_request(specs, by, grid_variables)
    levels = grid_levels(grid_variables, at)
    nests = factor_nesting(fit, nesting, levels)
    spec_names, by_names = shown_names(request.specs, request.by, nests)
    others = tuple(n for n in grid_variables if n not in spec_names + by_names)
    # The last variable varies fastest: cells to be averaged are consecutive.
    grid = reference_grid(levels, [*reversed(by_names), *reversed(spec_names), *others])
    n_cells = math.prod(len(levels[name]) for name in others)
    weights, cells = cell_weights(fit, grid, others, nests, n_cells), linear_functions(fit, grid)
    targets, averages = grid.iloc[::n_cells][[*by_names, *spec_names]], cells.average_cells(weights)
    shown = _shown_means(fit, targets, nests)
    functions = averages.select(shown)
    lacking = (weights * (shown & ~averages.estimable)[:, None] > 0.0).ravel() & ~cells.estimable
    return EMMeans(
        table=_means_table(targets.loc[shown], estimate_functions(fit, ddf, functions, conf_level)),
        specs=spec_names,
        by=by_names,
        averaged_over=tuple(n for n in others if len(levels[n]) > 1),
        fixed_at={n: levels[n].iloc[0] for n in others if len(levels[n]) == 1},
        conf_level=float(conf_level),
        method=request.method,
        notes=mean_notes(fit, ddf, (*by_names, *spec_names), nests, grid.loc[lacking]),
        _fit=fit,
        _ddf=ddf,
        _functions=functions,
        _groups=group_slices(targets.loc[shown, [*by_names]]),
        _scale=scale_of(fit, "linear"),
    )


def _grid_variables(fit: FittedModel) -> dict[str, Variable]:
    if not fit.crossprod.p:
        raise ArgumentError(f"'{fit.formula}' has no fixed effects, and so no means.")
    return fixed_variables(fit)


def _means_table(levels: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Levels of each mean, then its estimate and interval."""
    columns = {str(name): np.asarray(levels[name]) for name in levels}
    estimates = means.rename(columns={"estimate": "emmean"})
    names = ["emmean", "std_error", "df", "conf_low", "conf_high"]
    return pd.concat([pd.DataFrame(columns), estimates[names]], axis=1)


def _shown_means(fit: FittedModel, means: pd.DataFrame, nests: Nesting) -> Mask:
    """Whether the levels of the means occur together, where some are nested in others."""
    shown = [occurring(fit, means, [n, *nests[n]]) for n in means if n in nests]
    return np.asarray(np.logical_and.reduce([np.ones(len(means), dtype=bool), *shown]))
