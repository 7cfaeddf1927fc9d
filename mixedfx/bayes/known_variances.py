"""Posterior means of the levels of a group, with mean and variances known.

A level's posterior mean is a precision-weighted mean of its rows and the overall mean (Gelman and
Hill 2007, equation 12.1). It is computed as the conditional mode of a random intercept at a fixed
theta, by the penalised least squares of every other model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._keys import positions_of_keys
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.checks import check_positive
from mixedfx.design.levels import Levels, factorize
from mixedfx.design.source import as_frame, float_vector, row_vector
from mixedfx.errors import (
    ArgumentError,
    EmptyDataError,
    MissingColumnError,
    WeightsError,
    brief,
    did_you_mean,
)
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.crossproducts import CrossProducts, TermPosition
from mixedfx.likelihood.pls import solve_pls
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern

Vector = npt.NDArray[np.float64]


def posterior_means(
    data: Any, *, response: str, group: str, mean: float, sd: float, residual_sd: Any
) -> pd.Series:
    """
    Posterior means of the levels of a group, with mean and standard deviations known.

    Parameters
    ----------
    data : DataFrame
        pandas, or anything with ``to_pandas()`` or the Arrow interface, or a mapping of
        columns; it is not changed.
    response, group : str
        Columns.
    mean : float
        Of the levels, in units of the response.
    sd : float
        Standard deviation between the levels; with zero every level has the mean.
    residual_sd : float, str, array or mapping
        Standard deviation of a row about its level: one for all, a column, a value for each
        row, or a dict or Series by level.

    Returns
    -------
    pandas.Series
        By level. A level whose responses are all missing has the mean.

    Raises
    ------
    MissingColumnError
        If a column is not in the data.
    ArgumentError
        If ``mean`` or ``sd`` is no finite number, or ``sd`` is negative.
    WeightsError
        If a residual standard deviation is not positive.

    Notes
    -----
    For level ``i`` with ``n_i`` rows of mean ``m_i`` and residual standard deviation ``s_i`` it is
    ``lambda_i m_i + (1 - lambda_i) mean``, ``lambda_i = sd**2 / (sd**2 + s_i**2 / n_i)``.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, equation 12.1.

    Examples
    --------
    >>> ratings = {"friend": ["Ann", "Ann", "Bob"], "rating": [8.0, 6.0, 2.0]}
    >>> known = dict(mean=5.0, sd=1.0, residual_sd={"Ann": 1.0, "Bob": 2.0})
    >>> posterior_means(ratings, response="rating", group="friend", **known)
    friend
    Ann    6.333333
    Bob    4.400000
    Name: posterior_mean, dtype: float64
    """
    frame = as_frame(data)
    for name in (response, group):
        if not isinstance(name, str) or name not in frame.columns:
            hint = did_you_mean(str(name), map(str, frame.columns))
            listed = ", ".join(map(str, frame.columns))
            raise MissingColumnError(
                f"column {name!r} is not in the data; columns are: {listed}.{hint}"
            )
    prior_mean, prior_sd = _finite_number("mean", mean), _finite_number("sd", sd)
    if prior_sd < 0.0:
        raise ArgumentError(f"sd={brief(sd)} must not be negative.")
    kept = frame[group].notna().to_numpy()
    if not kept.any():
        raise EmptyDataError(f"the grouping column '{group}' is missing in every row.")
    labels, codes = factorize(_categorical(frame.loc[kept, group]))
    sds = _residual_sds(residual_sd, frame, labels, codes, kept)
    frame = frame.loc[kept]
    y = float_vector(f"the response '{response}'", frame[response])
    observed = ~np.isnan(y) & ~np.isnan(sds)
    check_positive("residual_sd", sds[observed], frame.index[observed])
    levels = Levels((labels,), (np.arange(len(labels)),))
    deviations, w = y[observed] - prior_mean, sds[observed] ** -2.0
    crossprod = _crossproducts(deviations, w, codes[observed], levels, response, group)
    effects = solve_pls(crossprod, np.array([prior_sd]), reml=False).conditional_modes()[0][0]
    return pd.Series(prior_mean + effects, index=labels.rename(group), name="posterior_mean")


def _finite_number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentError(f"{name}={brief(value)} must be a finite number.")
    return number


def _categorical(column: pd.Series) -> pd.Series:
    """Convert text to categories, as formulas do."""
    if isinstance(column.dtype, pd.CategoricalDtype) or column.dtype.kind in "biuf":
        return column
    return pd.Series(pd.Categorical(column), index=column.index)


def _residual_sds(
    value: Any,
    frame: pd.DataFrame,
    labels: pd.Index,
    codes: npt.NDArray[np.intp],
    kept: npt.NDArray[np.bool_],
) -> Vector:
    """Residual standard deviations of the rows that have a level, from any form of argument."""
    if value is None:
        raise ArgumentError("residual_sd=None must be a number, a column, an array or a dict.")
    if isinstance(value, pd.Series) and not value.index.equals(frame.index):
        by_level = value.index.is_unique and (positions_of_keys(labels, value.index) >= 0).all()
        value = value.to_dict() if by_level else value
    if isinstance(value, Mapping):
        keys = pd.Index(list(value), dtype=object, tupleize_cols=False)
        at = positions_of_keys(labels, keys)
        if (at < 0).any():
            absent = labels[at < 0][0]
            raise ArgumentError(f"residual_sd has no value for level {absent!r}; name every level.")
        return float_vector("residual_sd", pd.Series(list(value.values())).iloc[at])[codes]
    if not isinstance(value, str) and np.ndim(value) == 0:
        if _finite_number("residual_sd", value) <= 0.0:
            raise WeightsError(f"residual_sd={value!r} must be positive.")
        return np.full(len(codes), float(value))
    rows = row_vector(value, "residual_sd", frame)
    assert rows is not None
    return rows[kept]


def _crossproducts(
    y: Vector,
    w: Vector,
    codes: npt.NDArray[np.intp],
    levels: Levels,
    response: str,
    group: str,
) -> CrossProducts:
    """Cross-products of a random intercept and a response without fixed effects, ``sigma = 1``."""
    L = len(levels)
    ZtZ: Vector = np.bincount(codes, w, L)[None, None].astype(float)
    ZtXy: Vector = np.bincount(codes, w * y, L)[None, None].astype(float)
    return CrossProducts(
        n=len(y),
        response=response,
        names=(),
        groups=(group,),
        levels=(levels,),
        ZtZ=BlockMatrix(BlockPattern(BlockLayout((1,), (L,)), {}), (ZtZ,), {}),
        ZtXy=(ZtXy,),
        XytXy=np.array([[float(w @ y**2)]]),
        term_positions=(TermPosition(0, 0, 1),),
        parametrization=Parametrization(("us",), (1,)),
        bases=(ColumnBasis.scaling(np.ones(1)),),
        ols_coef=np.zeros(0),
        qr_R=None,
        log_weights=float(np.log(w).sum()),
        sigma=1.0,
    )
