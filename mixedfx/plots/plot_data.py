"""Statistics that the plots show: normal quantiles, box plots, binned means, grids of new rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx._keys import key_text
from mixedfx.errors import ArgumentError, did_you_mean

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Of more points a normal quantile plot shows both tails and a part of the middle.
_MAX_QUANTILES, _TAIL = 2_000, 300
_MAX_BINS = 15


def quantiles(values: Any, *, conf_level: float = 0.95) -> pd.DataFrame:
    """
    Pair sorted values with quantiles of standard normal order statistics.

    The rank i of n uniform values is Beta(i, n + 1 - i); its median and its ``conf_level`` limits
    are transformed by the normal quantile function.

    References
    ----------
    .. [1] David and Nagaraja (2003), Order Statistics, section 2.3.
    """
    numbers = pd.Series(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)].sort_values()
    n = len(numbers)
    rank = _plotted_ranks(n)
    tail = (1.0 - conf_level) / 2.0
    probabilities = {"theoretical": 0.5, "low": tail, "high": 1.0 - tail}
    columns = {
        name: special.ndtri(special.betaincinv(rank, n + 1.0 - rank, probability))
        for name, probability in probabilities.items()
    }
    values = numbers.iloc[rank - 1]
    return pd.DataFrame({"value": values.to_numpy(), **columns}, index=values.index)


def _plotted_ranks(n: int) -> Codes:
    """All ranks from 1 to n, or both tails and some of the middle."""
    if n <= _MAX_QUANTILES:
        return np.arange(1, n + 1)
    inner = np.linspace(_TAIL + 1, n - _TAIL, _MAX_QUANTILES - 2 * _TAIL).astype(np.intp)
    return np.concatenate([np.arange(1, _TAIL + 1), inner, np.arange(n - _TAIL + 1, n + 1)])


def binned_means(x: Any, y: Any) -> pd.DataFrame:
    """Means of x and y in bins of x with equally many points."""
    table = pd.DataFrame({"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float)})
    count = int(np.clip(np.sqrt(len(table)) / 1.5, 1, _MAX_BINS))
    # Tied values of x fall into one bin.
    rank = table["x"].rank(method="average").to_numpy() - 0.5
    bins = np.minimum((rank * count / max(len(table), 1)).astype(int), count - 1)
    grouped = table.groupby(bins)
    means: pd.DataFrame = grouped.mean()
    return means.assign(n=grouped.size()).reset_index(drop=True)


def boxplot_stats(values: pd.Series, levels: Any) -> pd.DataFrame:
    """Quartiles of each level, and its extreme values within 1.5 interquartile ranges (Tukey)."""
    level = pd.Series(np.asarray(levels, dtype=object), index=values.index)
    numbers = values.astype(float)
    grouped = numbers.groupby(level, sort=False)
    table = pd.DataFrame(
        {
            "n": grouped.size(),
            "q1": grouped.quantile(0.25),
            "median": grouped.median(),
            "q3": grouped.quantile(0.75),
        }
    )
    reach = 1.5 * (table["q3"] - table["q1"])
    lowest = level.map(table["q1"] - reach).astype(float)
    highest = level.map(table["q3"] + reach).astype(float)
    inside = numbers.where((numbers >= lowest) & (numbers <= highest)).groupby(level, sort=False)
    table.insert(1, "low", inside.min())
    table["high"] = inside.max()
    return table.rename_axis(None)


def select_levels(
    labels: pd.Index, wanted: int | Sequence[object] | None, *, group: str, max_levels: int
) -> Codes:
    """Select the levels to show: those named, or a number of them, equally spaced."""
    if wanted is None or isinstance(wanted, int | np.integer):
        if isinstance(wanted, bool) or (wanted is not None and wanted < 1):
            raise ArgumentError(
                f"levels={wanted!r} must be a positive number, or a list of levels."
            )
        count = min(max_levels if wanted is None else int(wanted), len(labels))
        return np.unique(np.linspace(0, len(labels) - 1, count).round().astype(np.intp))
    names = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else wanted
    code_of = {key_text(label): i for i, label in reversed(list(enumerate(labels)))}
    codes = []
    for name in names:
        if key_text(name) not in code_of:
            some = ", ".join(map(repr, code_of)) if len(code_of) <= 10 else f"{len(code_of)} others"
            hint = did_you_mean(str(name), code_of)
            raise ArgumentError(f"{name!r} is not a level of '{group}', which has {some}.{hint}")
        codes.append(code_of[key_text(name)])
    if not codes:
        raise ArgumentError("levels=[] leaves nothing to draw.")
    return np.array(list(dict.fromkeys(codes)), dtype=np.intp)


def data_grid(
    frame: pd.DataFrame,
    codes: Codes,
    *,
    x: str | None,
    own: Iterable[str] = (),
    points: int = 30,
    observed: bool = False,
) -> tuple[pd.DataFrame, Codes]:
    """Make new rows for each level: x over its range, other columns at their typical values."""
    used = codes >= 0
    frame, codes = frame[used].reset_index(drop=True), codes[used]
    own = set(own)
    grouped = frame.groupby(codes)
    typical = {}
    for name in frame.columns:
        column = frame[name]
        if name in own:
            typical[name] = grouped[name].first()
        elif is_number(column):
            typical[name] = grouped[name].mean()
        else:
            typical[name] = grouped[name].agg(lambda values: values.value_counts().index[0])
    constant = pd.DataFrame(typical)
    if x is None:
        return constant.reset_index(drop=True), constant.index.to_numpy(dtype=np.intp)
    column = frame[x]
    if not is_number(column):
        values = [np.asarray(_levels_of(column), dtype=object)] * len(constant)
    elif observed:
        values = [np.unique(column.to_numpy())] * len(constant)
    else:
        full_range = np.linspace(column.min(), column.max(), points)
        own_range = grouped[x].agg(["min", "max"]).to_numpy()
        values = [np.unique(np.concatenate([full_range, own])) for own in own_range]
    counts = [len(v) for v in values]
    rows = constant.loc[constant.index.repeat(counts)]
    level = rows.index.to_numpy(dtype=np.intp)
    return rows.reset_index(drop=True).assign(**{x: np.concatenate(values)}), level


def is_number(column: pd.Series) -> bool:
    """Whether a column is numeric, neither boolean nor categorical."""
    dtype = column.dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _levels_of(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return sorted(column.unique())
