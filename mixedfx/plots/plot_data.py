"""Tables to the tables that a picture shows: quantiles, quartiles, trends, grids of new rows.

Knows pandas only. What these give is what is drawn, to print or to draw in other ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError, did_you_mean

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Of more points than this a normal quantile plot shows both ends and a part of the middle.
_MOST_QUANTILES, _ENDS = 2_000, 300
_MOST_BINS = 15


def quantiles(values: Any, *, conf_level: float = 0.95) -> pd.DataFrame:
    """
    Set values beside the quantiles that a standard normal sample of their number would have.

    References
    ----------
    .. [1] David and Nagaraja (2003), Order Statistics, section 2.3.
    """
    numbers = pd.Series(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)].sort_values()
    n = len(numbers)
    rank = _ranks(n)
    tail = (1.0 - conf_level) / 2.0
    shares = {"theoretical": 0.5, "low": tail, "high": 1.0 - tail}
    found = {
        name: special.ndtri(special.betaincinv(rank, n + 1.0 - rank, share))
        for name, share in shares.items()
    }
    chosen = numbers.iloc[rank - 1]
    return pd.DataFrame({"value": chosen.to_numpy(), **found}, index=chosen.index)


def _ranks(n: int) -> Codes:
    """All ranks from 1 to n, or both ends and some of the middle."""
    if n <= _MOST_QUANTILES:
        return np.arange(1, n + 1)
    inner = np.linspace(_ENDS + 1, n - _ENDS, _MOST_QUANTILES - 2 * _ENDS).astype(np.intp)
    return np.concatenate([np.arange(1, _ENDS + 1), inner, np.arange(n - _ENDS + 1, n + 1)])


def trend(x: Any, y: Any) -> pd.DataFrame:
    """Show where y goes as x rises: means of both in bins with equally many points."""
    table = pd.DataFrame({"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float)})
    count = int(np.clip(np.sqrt(len(table)) / 1.5, 1, _MOST_BINS))
    # Points of one x belong together, wherever the next bin would begin.
    rank = table["x"].rank(method="average").to_numpy() - 0.5
    bins = np.minimum((rank * count / max(len(table), 1)).astype(int), count - 1)
    grouped = table.groupby(bins)
    means: pd.DataFrame = grouped.mean()
    return means.assign(n=grouped.size()).reset_index(drop=True)


def boxes(values: pd.Series, levels: Any) -> pd.DataFrame:
    """Find each level's quartiles, and how far its values reach."""
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


def some_levels(
    labels: pd.Index, wanted: int | Sequence[object] | None, *, group: str, most: int
) -> Codes:
    """Choose which levels to show."""
    if wanted is None or isinstance(wanted, int | np.integer):
        if isinstance(wanted, bool) or (wanted is not None and wanted < 1):
            raise ArgumentError(
                f"levels={wanted!r} must be a positive number, or a list of levels."
            )
        count = min(most if wanted is None else int(wanted), len(labels))
        return np.unique(np.linspace(0, len(labels) - 1, count).round().astype(np.intp))
    listed = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else wanted
    names = {str(label): i for i, label in reversed(list(enumerate(labels)))}
    found = []
    for level in listed:
        if str(level) not in names:
            some = ", ".join(map(repr, names)) if len(names) <= 10 else f"{len(names)} others"
            hint = did_you_mean(str(level), names)
            raise ArgumentError(f"{level!r} is not a level of '{group}', which has {some}.{hint}")
        found.append(names[str(level)])
    if not found:
        raise ArgumentError("levels=[] leaves nothing to draw.")
    return np.array(list(dict.fromkeys(found)), dtype=np.intp)


def grid(
    frame: pd.DataFrame,
    codes: Codes,
    *,
    x: str | None,
    own: Iterable[str] = (),
    points: int = 30,
    observed: bool = False,
) -> tuple[pd.DataFrame, Codes]:
    """Make new rows for each level: x runs over its range, all else stands still."""
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
    still = pd.DataFrame(typical)
    if x is None:
        return still.reset_index(drop=True), still.index.to_numpy(dtype=np.intp)
    column = frame[x]
    if not is_number(column):
        values = [np.asarray(_categories(column), dtype=object)] * len(still)
    elif observed:
        values = [np.unique(column.to_numpy())] * len(still)
    else:
        whole = np.linspace(column.min(), column.max(), points)
        ends = grouped[x].agg(["min", "max"]).to_numpy()
        values = [np.unique(np.concatenate([whole, pair])) for pair in ends]
    times = [len(v) for v in values]
    rows = still.loc[still.index.repeat(times)]
    level = rows.index.to_numpy(dtype=np.intp)
    return rows.reset_index(drop=True).assign(**{x: np.concatenate(values)}), level


def is_number(column: pd.Series) -> bool:
    """Say whether a column holds numbers, not truth values or categories."""
    dtype = column.dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _categories(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return sorted(column.unique())
