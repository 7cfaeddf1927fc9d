"""Effective sample size of each coefficient, at assumed shares of the variance.

    deff_j = [(X'V^-1X)^-1]_jj / [(X'X)^-1]_jj         V = s^2 I + sum_t v_t Z_t Z_t',  trace(V) = n

is the design effect of coefficient j: the variance of its estimate over that of as many
independent rows with the same variance; n / deff_j is its effective sample size. Of a mean of
groups of m rows it is Kish's 1 + (m - 1) ICC (1965, Survey Sampling), of a covariate within them
1 - ICC. By Woodbury's identity X'V^-1X = (X'X - X'Z (Z'Z + s^2 D^-1)^-1 Z'X) / s^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._names import column_label, decode
from mixedfx.design.inspection.factors import level_of
from mixedfx.design.inspection.finding import DesignFinding, without_fixed
from mixedfx.design.inspection.pairs import Pair
from mixedfx.design.inspection.reading import Columns, ReadRows
from mixedfx.design.levels import factorize
from mixedfx.errors import ArgumentError, brief, did_you_mean

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

DEFAULT_ICC = 0.1  # as of classes and clinics (Hedges and Hedberg 2007: 0.1 to 0.25)
# All effects together have at most so much of the variance, unless shares are given.
_MOST_OF_DEFAULT = 0.5
# Factorisations of crossed effects beyond this are left out: their time grows with the cube.
_MOST_CROSSED, _MOST_EFFECTS, _MOST_COLUMNS = 3_000, 1_000_000, 500
_FEW_UNITS = 4  # that are left for the differences at a level
COLUMNS = ["coefficient", "level", "units", "design_effect", "n_effective"]


@dataclass(frozen=True)
class Shares:
    """Share of the response's variance that an effect of each grouping factor has."""

    by_group: Mapping[str, float]

    @staticmethod
    def of(rows: ReadRows, icc: float | Mapping[str, float] | None) -> Shares:
        """Shares as given, or by default."""
        groups = list(rows.formula.groups)
        widths = _widths(rows)
        if icc is None:
            n_effects = sum(widths.values())
            share = min(DEFAULT_ICC, _MOST_OF_DEFAULT / max(n_effects, 1))
            return Shares(dict.fromkeys(groups, share))
        given = dict(icc) if isinstance(icc, Mapping) else dict.fromkeys(groups, icc)
        for name, value in given.items():
            if name not in groups:
                raise ArgumentError(
                    f"icc= has a share of '{name}', which is no grouping factor of the formula; "
                    f"these are {', '.join(groups)}.{did_you_mean(str(name), groups)}"
                )
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not 0.0 <= value < 1.0:
                raise ArgumentError(
                    f"icc={brief(value)} must be a share of the variance, from 0 to below 1."
                )
        shares = {group: float(given.get(group, 0.0)) for group in groups}
        total = sum(shares[group] * widths[group] for group in groups)
        if total >= 1.0:
            raise ArgumentError(
                f"icc={brief(icc)} gives the random effects together {total:.2g} of the variance, "
                "an intercept and each slope of a factor as much: they must leave some to the rows."
            )
        return Shares(shares)

    @property
    def sentence(self) -> str:
        """What is assumed."""
        if not self.by_group:
            return "Rows are independent."
        listed = ", ".join(f"{share:.3g} by {group}" for group, share in self.by_group.items())
        return (
            f"Assumed shares of the response's variance: {listed}, of an intercept, and of each "
            "slope at one standard deviation of its covariate; icc= changes them."
        )


def _widths(rows: ReadRows) -> dict[str, int]:
    """Effects of each grouping factor, a factor's slopes as one."""
    widths = dict.fromkeys(rows.formula.groups, 0)
    for term in rows.formula.random:
        columns = rows.effects(term)
        widths[term.group_name] += 0 if columns is None else len(columns.terms)
    return widths


def coefficients_table(rows: ReadRows, pairs: tuple[Pair, ...], shares: Shares) -> pd.DataFrame:
    """A row for each fixed column, with NaN where it depends on those before it."""
    fixed = rows.fixed
    if fixed is None or not fixed.matrix.shape[1] or not np.isfinite(fixed.matrix).all():
        return pd.DataFrame(columns=COLUMNS)
    X = fixed.matrix
    kept = fixed.independent
    effects = np.full(X.shape[1], np.nan)
    Z = _effects_matrix(rows, pairs, shares)
    if Z is not None and len(kept) < rows.n and len(kept) <= _MOST_COLUMNS:
        effects[kept] = _design_effects(X[:, kept], *Z)
    names = ["Intercept"] if fixed.info is None else fixed.info.column_names
    table = []
    for j, name in enumerate(names):
        codes = factorize(pd.Series(X[:, j]))[1]
        level, units = level_of(rows, pairs, codes)
        level, units = ("all", rows.n) if level == "constant" else (level, units)
        row = (column_label(name), level, units, effects[j], rows.n / effects[j])
        table.append(row)
    return pd.DataFrame(table, columns=COLUMNS)


def sentence(shares: Shares, table: pd.DataFrame) -> str:
    """What the effective sample sizes assume, and why there are none."""
    if len(table) and table["design_effect"].isna().all():
        return (
            "Effective sample sizes are left out where two crossed factors have more than "
            f"{_MOST_CROSSED:,} levels each, or a column is not finite."
        )
    return shares.sentence


def _effects_matrix(
    rows: ReadRows, pairs: tuple[Pair, ...], shares: Shares
) -> tuple[list[sparse.csr_array], list[float]] | None:
    """Columns of the effects, scaled to one share of the variance each, and these shares."""
    blocks: list[sparse.csr_array] = []
    variances = []
    for term in rows.formula.random:
        share = shares.by_group[term.group_name]
        levels, columns = rows.indicators(term), rows.effects(term)
        if levels is None or columns is None or not np.isfinite(columns.matrix).all():
            return None
        for column, of_term in _scaled(columns):
            if share > 0.0:
                blocks.append(sparse.csr_array(levels.multiply(column[:, None])))
                variances.append(share / of_term)
    if sum(block.shape[1] for block in blocks) > _MOST_EFFECTS or _large_crossing(pairs):
        return None
    return blocks, variances


def _large_crossing(pairs: tuple[Pair, ...]) -> bool:
    """Whether two crossed grouping factors both have many levels."""
    return any(
        min(pair.first.n_levels, pair.second.n_levels) > _MOST_CROSSED
        for pair in pairs
        if "crossed" in pair.relation
        and "random" in pair.first.roles
        and "random" in pair.second.roles
    )


def _scaled(columns: Columns) -> Iterator[tuple[Vector, int]]:
    """Columns of mean square one, about their means beside an intercept; columns of their term."""
    has_intercept = "Intercept" in columns.terms
    for name, part in columns.terms.items():
        width = part.stop - part.start
        for column in columns.matrix[:, part].T:
            centred = column if name == "Intercept" or not has_intercept else column - column.mean()
            size = float(np.sqrt((centred**2).mean()))
            if size > 0.0:
                yield centred / size, width


def _design_effects(X: Matrix, blocks: list[sparse.csr_array], shares: list[float]) -> Vector:
    """Variances of the coefficients over those of as many independent rows."""
    scale = np.sqrt((X**2).mean(axis=0))
    X = X / scale
    XtX = X.T @ X
    residual = 1.0 - sum(shares)
    information = XtX.copy()
    if blocks:
        Z = sparse.csr_array(sparse.hstack(blocks, format="csr"))
        sizes = [block.shape[1] for block in blocks]
        penalty = np.repeat([residual / share for share in shares], sizes)
        M = sparse.csc_array(Z.T @ Z + sparse.diags_array(penalty))
        ZtX = np.asarray(Z.T @ X)
        information = XtX - ZtX.T @ _solved(M, ZtX)
    variances = residual * np.diag(np.linalg.inv(information))
    return np.asarray(variances / np.diag(np.linalg.inv(XtX)))


def _solved(M: sparse.csc_array, B: Matrix) -> Matrix:
    from scipy.sparse.linalg import splu

    options = {"SymmetricMode": True}
    factor = splu(M, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    return np.asarray(factor.solve(B))


def findings_of_coefficients(rows: ReadRows, table: pd.DataFrame) -> Iterator[DesignFinding]:
    """Columns that depend on others, and coefficients that rest on few units."""
    fixed = rows.fixed
    if fixed is None or not len(table):
        return
    kept = set(fixed.independent.tolist())
    dropped = [j for j in range(fixed.matrix.shape[1]) if j not in kept]
    if dropped:
        whole = [
            name
            for name, part in fixed.terms.items()
            if not kept & set(range(part.start, part.stop))
        ]
        names = ", ".join(f"'{table['coefficient'][j]}'" for j in dropped)
        be = "is a linear combination" if len(dropped) == 1 else "are linear combinations"
        what = f"{names} {be} of the columns before."
        to_do = "No data tell them apart, and the fit leaves them out."
        formula = without_fixed(rows.formula, whole) if whole else ""
        to_do = f"{to_do[:-1]}, as without {', '.join(map(decode, whole))}:" if whole else to_do
        yield DesignFinding("warning", "dependent", names, what, to_do, formula)
    own = {f.name for f in rows.random_factors if "fixed" in f.roles}
    for level, of_level in table[~table["level"].isin(["row", "all"])].groupby("level", sort=False):
        units = int(of_level["units"].iloc[0])
        left = units - 1 - len(of_level)
        if left < _FEW_UNITS and units < rows.n and level not in own:
            names = ", ".join(f"'{name}'" for name in of_level["coefficient"])
            vary = "varies" if len(of_level) == 1 else "vary"
            what = f"{names} {vary} between the {units} levels of '{level}' alone."
            to_do = (
                f"The sample size is {units}, whatever the number of rows: {max(left, 0)} degrees "
                "of freedom are left for a test. More levels would help, more rows will not."
            )
            yield DesignFinding("note", "few units", names, what, to_do)
