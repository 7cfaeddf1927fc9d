"""A fit to the means that its fixed part implies in a balanced population.

The data may hold many rows of one treatment and few of another. The means here do not depend
on that: the fixed part is evaluated on a grid of all combinations of its factors' levels, with
its covariates at one value, and averaged over what is not asked about, each level with the same
weight. So a mean is a row of coefficients, a contrast is a difference of rows, and both have
the standard errors, degrees of freedom and tests of any combination of the fixed effects.

Where the variables are held is for :mod:`mixedfx.inference.emmeans.reference_grid` to say, which
sums of
means
compare them for :mod:`mixedfx.inference.emmeans.contrasts`, and what many comparisons do to
p-values and
intervals for :mod:`mixedfx.inference.emmeans.p_adjust`. All follow R's emmeans.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import independent_columns
from mixedfx.errors import ArgumentError, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formatting import format_column
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.inference import wald
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.contrasts import Method, check_several, contrast_coefficients
from mixedfx.inference.emmeans.p_adjust import Adjust, adjusted, adjustment_for
from mixedfx.inference.emmeans.reference_grid import (
    Combinations,
    combinations_on,
    level_text,
    read_levels,
    read_names,
    reference_grid,
    variables,
)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class EMMeans:
    """
    Estimated marginal means; made by :func:`emmeans`.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per mean: a column for each variable of ``by`` and ``specs`` with its level, then
        ``emmean std_error df conf_low conf_high``. The first of several variables varies
        fastest, and those of ``by`` slowest. NaN for means that the data cannot tell.
    specs, by : tuple of str
        The variables whose levels have a mean each; those of ``by`` split the contrasts.
    averaged : tuple of str
        The variables that are averaged over, each level or value with the same weight.
    held : mapping
        From the other variables to where they are held: covariates at their mean, and what
        ``at`` says.
    conf_level : float
        Coverage of the intervals of the means.
    notes : tuple of str
        What the user should know.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.inference.denominator_df import degrees
    >>> cake = mfx.datasets.load("cake")
    >>> fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake).model
    >>> means = emmeans(fit, degrees(fit, "satterthwaite"), "recipe")
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
    averaged: tuple[str, ...]
    held: Mapping[str, Any]
    conf_level: float
    notes: tuple[str, ...]
    _fit: FittedModel = field(repr=False)
    _how: DenominatorDf = field(repr=False)
    _means: Combinations = field(repr=False)
    _groups: int = field(repr=False)

    @property
    def rows(self) -> Matrix:
        """The means as combinations of the columns of ``X``; NaN for those that have none."""
        rows = np.where(self._means.estimable[:, None], self._means.rows, np.nan)
        set_readonly(rows)
        return rows

    def contrasts(
        self,
        method: Method | Mapping[str, Sequence[float]] = "pairwise",
        *,
        adjust: Adjust | None = None,
        conf_level: float | None = None,
    ) -> pd.DataFrame:
        """
        Compare the means, within each level of ``by``.

        Parameters
        ----------
        method : str or mapping of str to sequence of float
            ``"pairwise"``: all differences, earlier less later; ``"revpairwise"``: later less
            earlier; ``"trt.vs.ctrl"``: each less the first; ``"consec"``: each less the one
            before; ``"eff"``: each less the mean of the means; ``"poly"``: orthogonal
            polynomials over equal steps, in the integers of published tables; or a mapping
            from labels to a coefficient for each mean.
        adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}, optional
            For how many comparisons are made, within each level of ``by``. Without it
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
            conf_low conf_high``. NaN for what the data cannot tell; a contrast can be
            estimable although its means are not.

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
        >>> from mixedfx.inference.denominator_df import degrees
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).model
        >>> means = emmeans(fit, degrees(fit, "kenward-roger"), "Days", at={"Days": [0, 5, 9]})
        >>> means.contrasts("consec")[["contrast", "estimate", "df"]].round(2)
                contrast  estimate    df
        0  Days5 - Days0     52.34  17.0
        1  Days9 - Days5     41.87  17.0
        """
        level = self.conf_level if conf_level is None else conf_level
        check_share("conf_level", level)
        names = _labels(self.table, self.specs)[: self._size]
        labels, weights = contrast_coefficients(method, names)
        chosen = adjustment_for(method, adjust)
        parts = []
        for start in self._starts:
            combined = self._group(start).weighted(weights)
            found = _estimated(self._fit, self._how, combined, level)
            found = adjusted(found, chosen, k=self._size, conf_level=level)
            found.insert(0, "contrast", labels)
            parts.append(self._with_by(found, start))
        return pd.concat(parts, ignore_index=True)

    def joint(self) -> pd.DataFrame:
        """
        Test that the means within each level of ``by`` are all equal.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by``, then ``F num_df den_df p_value``; of those differences
            that the data can tell, NaN if there are none. The degrees of freedom of the
            denominator are those of the differences from the first mean together (emmeans takes
            the least of theirs one by one).

        Raises
        ------
        ArgumentError
            If there is one mean only.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> from mixedfx.inference.denominator_df import degrees
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", cake).model
        >>> emmeans(fit, degrees(fit, "satterthwaite"), "temperature").joint().round(2)
               F  num_df  den_df  p_value
        0  20.52     5.0   210.0      0.0
        """
        check_several(self._size)
        first = np.column_stack([-np.ones(self._size - 1), np.eye(self._size - 1)])
        size = np.sqrt(np.square(self._fit.design.X).mean(axis=0))
        parts = []
        for start in self._starts:
            rows = self._group(start).weighted(first).estimable_part()
            rows = rows[independent_columns((rows * size).T)]
            names = ["F", "num_df", "den_df", "p_value"]
            test = pd.Series(np.nan, index=names)
            if len(rows):
                equal = Constraints(rows, np.zeros(len(rows)), ("equal means",) * len(rows))
                test = wald.f_test(self._fit, self._how, equal)
            parts.append(self._with_by(test.to_frame().T.reset_index(drop=True), start))
        return pd.concat(parts, ignore_index=True)

    @property
    def _size(self) -> int:
        """How many means there are in each level of ``by``."""
        return len(self.table) // self._groups

    @property
    def _starts(self) -> range:
        return range(0, len(self.table), self._size)

    def _group(self, start: int) -> Combinations:
        return self._means.part(slice(start, start + self._size))

    def _with_by(self, found: pd.DataFrame, start: int) -> pd.DataFrame:
        """Put the levels of ``by`` before the columns of one of its groups."""
        for place, name in enumerate(self.by):
            found.insert(place, name, [self.table[name].iloc[start]] * len(found))
        return found

    def _captions(self) -> list[str]:
        said = []
        if self.averaged:
            said.append(f"Averaged over: {', '.join(self.averaged)}.")
        if self.held:
            held = ", ".join(f"{name} = {level_text(value)}" for name, value in self.held.items())
            said.append(f"Held at: {held}.")
        said.append(f"Degrees of freedom: {self._how.name}.")
        said.append(f"Confidence level: {self.conf_level:g}.")
        return [" ".join(said), *(f"Note: {note}" for note in self.notes)]

    def __str__(self) -> str:
        """Lay out the table, and say what the means are of."""
        lines = [textwrap.fill(text, 80) for text in self._captions()]
        return "\n".join([_shown(self.table).to_string(index=False), "", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        table = _shown(self.table).to_html(index=False, border=0)
        return table + "".join(f"<p>{html.escape(text)}</p>" for text in self._captions())


def emmeans(
    fit: FittedModel,
    how: DenominatorDf,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    conf_level: float = 0.95,
) -> EMMeans:
    """
    Estimate the marginal means of the levels of some variables.

    Notes
    -----
    The grid has every level of the factors that the fixed part reads: of text, categories and
    truth values, and of numbers inside ``C()``. Covariates are at the mean of the rows used,
    without weights, before any function: ``np.log(x)`` is at the logarithm of the mean. As in
    emmeans, a covariate of no more than two different values is a code for levels and takes
    both. The mean of an offset is part of the means.

    With columns left out for cells without data, a mean is estimable if the columns that were
    left out depend on the others in its row as they do in the data.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980), Population marginal means in the linear model,
       Am. Stat. 34:216.
    .. [2] Lenth, emmeans: estimated marginal means, aka least-squares means (R package),
       version 1.8.4.
    """
    check_share("conf_level", conf_level)
    if not fit.crossprod.p:
        raise ArgumentError(f"'{fit.formula}' has no fixed effects, and so no means.")
    known = variables(fit)
    groups = read_names("by", by, known)
    wanted = tuple(name for name in read_names("specs", specs, known) if name not in groups)
    levels = read_levels(known, at)
    others = tuple(name for name in known if name not in wanted + groups)
    # The last varies fastest: so the cells that are averaged are neighbours.
    grid = reference_grid(levels, [*reversed(groups), *reversed(wanted), *others])
    cell = math.prod(len(levels[name]) for name in others)
    means = combinations_on(fit, grid).averaged(cell)
    shown = pd.DataFrame({n: np.asarray(grid[n].iloc[::cell]) for n in (*groups, *wanted)})
    found = _estimated(fit, how, means, conf_level).rename(columns={"estimate": "emmean"})
    columns = ["emmean", "std_error", "df", "conf_low", "conf_high"]
    return EMMeans(
        table=pd.concat([shown, found[columns]], axis=1),
        specs=wanted,
        by=groups,
        averaged=tuple(name for name in others if len(levels[name]) > 1),
        held={name: levels[name].iloc[0] for name in others if len(levels[name]) == 1},
        conf_level=float(conf_level),
        notes=_notes(fit, how, {*wanted, *groups}, means),
        _fit=fit,
        _how=how,
        _means=means,
        _groups=math.prod(len(levels[name]) for name in groups),
    )


def _estimated(
    fit: FittedModel, how: DenominatorDf, combined: Combinations, conf_level: float
) -> pd.DataFrame:
    """Estimate combinations; NaN for those that the data do not determine."""
    estimable, rows = combined.estimable, combined.rows
    tested = estimable & rows.any(axis=1)
    found = wald.t_tests(
        fit,
        how,
        rows[tested],
        [""] * int(tested.sum()),
        values=-combined.shift[tested],
        conf_level=conf_level,
    ).drop(columns="term")
    table = pd.DataFrame(np.nan, index=range(len(rows)), columns=found.columns)
    table.loc[tested] = found.to_numpy()
    # A difference that is zero whatever the coefficients are is known, and has no test.
    table.loc[estimable & ~tested, ["estimate", "std_error"]] = 0.0
    for name in ("estimate", "conf_low", "conf_high"):
        table[name] += combined.shift
    order = ["estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
    return table[order]


def _notes(
    fit: FittedModel, how: DenominatorDf, shown: set[str], means: Combinations
) -> tuple[str, ...]:
    """Say what a reader of the means should know."""
    notes = []
    if not means.estimable.all():
        notes.append("NaN stands for means that these data cannot tell.")
    with_others: dict[str, None] = {}
    for term in terms_of(fit.design.formula.fixed):
        inside = {n for f in term.factors for n in names_in(f.name()) if n in fit.design.variables}
        if inside & shown:
            with_others.update(dict.fromkeys(sorted(inside - shown)))
    if with_others:
        notes.append(
            f"the means of {', '.join(sorted(shown))} may mislead, as there is an interaction with "
            f"{', '.join(with_others)}."
        )
    if how.remark is not None:
        notes.append(how.remark)
    return tuple(notes)


# ------------------------------------------------------------------ showing


def _labels(table: pd.DataFrame, specs: Sequence[str]) -> list[str]:
    """Name the means as emmeans does: numbers with their variable, operators in brackets."""
    if not specs:
        return ["overall"] * len(table)
    texts = []
    for name in specs:
        levels = [level_text(value) for value in table[name]]
        prefix = name if all(map(_is_number, levels)) else ""
        texts.append([prefix + level for level in levels])
    joined = [" ".join(parts) for parts in zip(*texts, strict=True)]
    return [f"({text})" if re.search(r"[-+*/]", text) else text for text in joined]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Write every column, levels flush left and numbers to the digits that they need."""
    numeric = ("emmean", "std_error", "df", "conf_low", "conf_high")
    shown: dict[str, list[str]] = {}
    for name in table.columns:
        if name in numeric:
            shown[name] = format_column(table[name], digits=3 if name == "df" else 5)
        else:
            texts = [level_text(value) for value in table[name]]
            width = max(map(len, [name, *texts]))
            shown[name.ljust(width)] = [text.ljust(width) for text in texts]
    return pd.DataFrame(shown)
