"""Rows per level of each factor, and the level at which each covariate varies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.inspection.finding import DesignFinding, as_fixed, without_group
from mixedfx.design.inspection.pairs import Pair
from mixedfx.design.inspection.reading import Factor, ReadRows
from mixedfx.design.levels import are_nested, factorize

Codes = npt.NDArray[np.intp]

# Of fewer levels a variance is hardly known (Gelman and Hill 2007, section 11.5).
_FEW_LEVELS = 5
FACTOR_COLUMNS = ["factor", "role", "levels", "rows_min", "rows_median", "rows_max", "singletons"]


def factors_table(rows: ReadRows) -> pd.DataFrame:
    """A row for each factor."""
    table = []
    for factor in rows.factors:
        counts = factor.counts
        sizes = int(counts.min()), float(np.median(counts)), int(counts.max())
        alone = int((counts == 1).sum())
        table.append((factor.name, ", ".join(factor.roles), factor.n_levels, *sizes, alone))
    return pd.DataFrame(table, columns=FACTOR_COLUMNS)


def findings_of_factors(rows: ReadRows, *, one_row_levels: bool) -> Iterator[DesignFinding]:
    """Grouping factors whose variance is not identified, or hardly known."""
    formula, n = rows.formula, rows.n
    for factor in rows.random_factors:
        levels, name = factor.n_levels, factor.name
        alone = int((factor.counts == 1).sum())
        if levels < 2:
            what = f"Grouping factor '{name}' has one level."
            to_do = "A variance between levels needs several; leave its term out:"
            yield DesignFinding("error", "levels", name, what, to_do, without_group(formula, name))
        elif levels == n and not one_row_levels:
            what = f"Grouping factor '{name}' has a level for each of the {n} rows."
            to_do = "Its variance cannot be told from the residual's; leave its term out:"
            yield DesignFinding("error", "levels", name, what, to_do, without_group(formula, name))
        elif levels < _FEW_LEVELS:
            what = f"Grouping factor '{name}' has {levels} levels."
            to_do = (
                f"The variance between {levels} levels is hardly known. If these levels are what "
                "the study is about, make the factor a fixed one:"
            )
            fixed = as_fixed(formula, name) if len(factor.parts) == 1 else ""
            yield DesignFinding("note", "levels", name, what, to_do, fixed)
        elif alone > levels / 2 and not one_row_levels:
            what = f"{alone} of the {levels} levels of '{name}' have a single row."
            to_do = (
                "They do not tell the variance between levels from the residual's; the others, "
                f"{levels - alone}, do."
            )
            yield DesignFinding("note", "levels", name, what, to_do)
        if "fixed" in factor.roles:
            what = f"'{name}' is a fixed and a random factor."
            to_do = "Its fixed effects explain its levels; leave its random term out:"
            yield DesignFinding("error", "same", name, what, to_do, without_group(formula, name))


# ---------------------------------------------------------------- covariates


def covariates_table(rows: ReadRows, pairs: tuple[Pair, ...]) -> pd.DataFrame:
    """
    Level at which each covariate varies: rows, or the factor within whose levels it is constant.

    ``units`` is the number of levels there. A column for each grouping factor has the share of the
    sum of squares that is between its levels: 1 of a covariate of the levels, and near
    (levels - 1) / (rows - 1) of one that is assigned within them.
    """
    grouping = {part for factor in rows.random_factors for part in factor.parts}
    table = []
    for name, values in rows.covariates.items():
        if name in grouping and isinstance(values.dtype, pd.CategoricalDtype):
            continue
        index, codes = factorize(values)
        is_number = not isinstance(values.dtype, pd.CategoricalDtype) and values.dtype.kind != "b"
        level, units = level_of(rows, pairs, codes)
        shares = {
            f"between {f.name}": _share_between(values, codes, f, is_number=is_number)
            for f in rows.random_factors
        }
        kind = "number" if is_number else "category"
        row = {"covariate": decode(name), "kind": kind, "values": len(index)}
        table.append({**row, "level": level, "units": units, **shares})
    columns = ["covariate", "kind", "values", "level", "units"]
    columns += [f"between {f.name}" for f in rows.random_factors]
    return pd.DataFrame(table, columns=columns)


def level_of(rows: ReadRows, pairs: tuple[Pair, ...], codes: Codes) -> tuple[str, int]:
    """Factor with the fewest levels within which a variable is constant, and their number."""
    if (codes == codes[0]).all():
        return "constant", 1
    around = [f for f in rows.random_factors if f.n_levels < rows.n and are_nested(f.codes, codes)]
    around += [f for f in rows.factors if "part" in f.roles and f.n_levels < rows.n]
    around = [f for f in around if are_nested(f.codes, codes)]
    if around:
        factor = min(around, key=lambda f: f.n_levels)
        return factor.name, factor.n_levels
    for pair in pairs:
        both = {"random", "part"}
        of_random = both & set(pair.first.roles) and both & set(pair.second.roles)
        larger = of_random and "crossed" in pair.relation and len(pair.cells) < rows.n
        if larger and are_nested(pair.cell_of_rows, codes):
            return f"{pair.first.name}:{pair.second.name}", len(pair.cells)
    return "row", rows.n


def _share_between(values: pd.Series, codes: Codes, factor: Factor, *, is_number: bool) -> float:
    """Share of a covariate's sum of squares, or of those of its indicators, between levels."""
    counts = factor.counts
    if is_number:
        x = values.to_numpy(dtype=float)
        if not np.isfinite(x).all():
            return np.nan
        total = float(((x - x.mean()) ** 2).sum())
        sums = np.bincount(factor.codes, x - x.mean(), factor.n_levels)
        between = float((sums**2 / counts).sum())
    else:
        shares = np.bincount(codes) / len(codes)
        total = float(len(codes) * (1.0 - (shares**2).sum()))
        joined, cells = np.unique(
            factor.codes.astype(np.int64) * len(shares) + codes, return_counts=True
        )
        of_level = joined // len(shares)
        between = float((cells.astype(float) ** 2 / counts[of_level]).sum())
        between -= float(len(codes) * (shares**2).sum())
    return between / total if total > 0.0 else np.nan
