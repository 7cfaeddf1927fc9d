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

    Parameters
    ----------
    values : array or Series
        Standardised; what is not finite is left out.
    conf_level : float
        Coverage of the envelope, at each point by itself.

    Returns
    -------
    pandas.DataFrame
        ``value theoretical low high``, sorted, with the values' index. The i-th of n uniform
        values has the beta distribution with i and n + 1 - i; ``theoretical`` is the normal
        quantile of its median, ``low`` and ``high`` of its tails.

    References
    ----------
    .. [1] David and Nagaraja (2003), Order Statistics, section 2.3.

    Examples
    --------
    >>> quantiles([0.3, -1.2]).round(2)
       value  theoretical   low  high
    1   -1.2        -0.54 -2.24  1.00
    0    0.3         0.54 -1.00  2.24
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
    """
    Show where y goes as x rises: means of both in bins with equally many points.

    Parameters
    ----------
    x, y : array of shape (n,)
        Finite.

    Returns
    -------
    pandas.DataFrame
        ``x y n``, a row per bin: two thirds of the root of n, 15 at most.

    Examples
    --------
    >>> trend(range(40), [0] * 20 + [1] * 20)
          x    y   n
    0   4.5  0.0  10
    1  14.5  0.0  10
    2  24.5  1.0  10
    3  34.5  1.0  10
    """
    table = pd.DataFrame({"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float)})
    count = int(np.clip(np.sqrt(len(table)) / 1.5, 1, _MOST_BINS))
    # Points of one x belong together, wherever the next bin would begin.
    rank = table["x"].rank(method="average").to_numpy() - 0.5
    bins = np.minimum((rank * count / max(len(table), 1)).astype(int), count - 1)
    grouped = table.groupby(bins)
    means: pd.DataFrame = grouped.mean()
    return means.assign(n=grouped.size()).reset_index(drop=True)


def boxes(values: pd.Series, levels: Any) -> pd.DataFrame:
    """
    Find each level's quartiles, and how far its values reach.

    Parameters
    ----------
    values : pandas.Series
        A number per row.
    levels : array of shape (rows,)
        Each row's level.

    Returns
    -------
    pandas.DataFrame
        Indexed by level: ``n low q1 median q3 high``. ``low`` and ``high`` are the outermost
        values within 1.5 times the distance between the quartiles (Tukey's whiskers).

    Examples
    --------
    >>> boxes(pd.Series([1, 2, 3, 4, 40]), ["a"] * 5)
       n  low   q1  median   q3  high
    a  5  1.0  2.0     3.0  4.0   4.0
    """
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
    """
    Choose which levels to show.

    Parameters
    ----------
    labels : pandas.Index
        All levels.
    wanted : int, sequence or None
        How many, spread evenly over the levels' order; or which; or as many as can be seen.
    group : str
        Name of the grouping factor, for the error.
    most : int
        How many can be seen.

    Returns
    -------
    ndarray of int
        Their positions among ``labels``.

    Raises
    ------
    ArgumentError
        If a level is unknown or the number is not positive.

    Examples
    --------
    >>> some_levels(pd.Index(list("abcde")), 3, group="g", most=30)
    array([0, 2, 4])
    """
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
    """
    Make new rows for each level: x runs over its range, all else stands still.

    Parameters
    ----------
    frame : pandas.DataFrame
        The rows of the data.
    codes : ndarray of shape (rows,)
        Each row's level, from 0; -1 for rows to be left out.
    x : str or None
        The column that runs; None for one row per level.
    own : iterable of str
        Columns that name the level, taken from its first row.
    points : int
        How many values of x, spread evenly over its range in all rows; the ends of the
        level's own range are added.
    observed : bool
        Whether only values that occur may be used; those of a factor always are.

    Returns
    -------
    rows : pandas.DataFrame
        The columns of the data; numbers at their mean in the level's rows, factors at what is
        most common there.
    codes : ndarray of int
        Each new row's level.

    Examples
    --------
    >>> data = pd.DataFrame({"g": ["a", "a", "b"], "x": [0.0, 1, 4], "z": [1.0, 3, 5]})
    >>> rows, codes = grid(data, np.array([0, 0, 1]), x="x", own=["g"], points=2)
    >>> rows
       g    x    z
    0  a  0.0  2.0
    1  a  1.0  2.0
    2  a  4.0  2.0
    3  b  0.0  5.0
    4  b  4.0  5.0
    """
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
    """
    Say whether a column holds numbers, not truth values or categories.

    Parameters
    ----------
    column : pandas.Series
        Any.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> is_number(pd.Series([1, 2])), is_number(pd.Series([True, False]))
    (True, False)
    """
    dtype = column.dtype
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _categories(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return sorted(column.unique())
