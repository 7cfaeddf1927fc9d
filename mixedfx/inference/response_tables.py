"""Tables of the estimates of many responses: tests of coefficients, and shares of variances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.inference import wald
from mixedfx.inference.false_discovery import false_discovery_rates
from mixedfx.inference.moderation import moderated_variances

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ResponseEstimates:
    """Estimates of the responses with one pattern of missing values; NaN where there are none."""

    which: Codes  # (B,) responses
    terms: tuple[str, ...]
    components: tuple[str, ...]
    estimate: Matrix = field(repr=False)  # (terms, B)
    variance: Matrix = field(repr=False)
    df: Matrix = field(repr=False)
    sigma2: Vector = field(repr=False)  # (B,)
    shares: Matrix = field(repr=False)  # (components, B)
    failures: dict[int, str]
    n_single: int


def response_table(
    names: list[Any],
    parts: list[ResponseEstimates],
    what: str,
    moderated: bool,
    adjust: str,
    conf_level: float,
) -> pd.DataFrame:
    """One long table, the responses in their order."""
    label = np.array(names, dtype=object)
    if what == "variances":
        components = _common([part.components for part in parts])
        values = _gathered(parts, "components", "shares", components, len(names))
        with np.errstate(invalid="ignore"):
            share = values / values.sum(axis=0)
        columns = {"variance": values.T.ravel(), "share": share.T.ravel()}
        keys = {"response": np.repeat(label, len(components)), "component": components * len(names)}
        return pd.DataFrame({**keys, **columns}).infer_objects()
    terms = _common([part.terms for part in parts])
    estimate, variance, df = (
        _gathered(parts, "terms", column, terms, len(names))
        for column in ("estimate", "variance", "df")
    )
    if moderated:
        sigma2 = _gathered(parts, None, "sigma2", [""], len(names))[0]
        for j in range(len(terms)):
            posterior, d0 = moderated_variances(sigma2, df[j])
            variance[j] *= posterior / sigma2
            df[j] += d0
    with np.errstate(all="ignore"):  # responses without estimates
        in_order = (v.T.ravel() for v in (estimate, np.sqrt(variance), df))
        table = pd.DataFrame(wald.columns_of_tests(*in_order, conf_level=conf_level))
    table.insert(0, "term", terms * len(names))
    table.insert(0, "response", pd.Series(np.repeat(label, len(terms))).infer_objects())
    if adjust == "fdr":
        p = table["p_value"].to_numpy().reshape(len(names), -1)
        adjusted = np.column_stack([false_discovery_rates(column) for column in p.T])
        table["p_adjusted"] = adjusted.ravel()
    return table


def _common(names: list[tuple[str, ...]]) -> list[str]:
    """All names, in their order."""
    return list(dict.fromkeys(name for part in names for name in part))


def _gathered(
    parts: list[ResponseEstimates], keys: str | None, values: str, names: list[str], count: int
) -> Matrix:
    """Values (names, R) of all parts; NaN where a part has no such name."""
    out = np.full((len(names), count), np.nan)
    for part in parts:
        own = [""] if keys is None else getattr(part, keys)
        for name, row in zip(own, np.atleast_2d(getattr(part, values)), strict=True):
            out[names.index(name), part.which] = row
    return out
