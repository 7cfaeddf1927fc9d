"""Convergence of chains by ArviZ's measures (Vehtari and others 2021, Bayesian Anal. 16:667)."""

from __future__ import annotations

from typing import Any

import numpy as np

RHAT, ESS = 1.01, 400.0


def convergence_problems(parameters: Any) -> list[str]:
    """Name the variables of a dataset with a large R-hat or a small bulk effective sample size."""
    import arviz_stats

    stats: Any = arviz_stats
    problems, large_rhat = [], ""
    with np.errstate(all="ignore"):  # of constants
        if parameters.sizes["chain"] > 1:
            large_rhat = _list_entries(stats.rhat(parameters), lambda v: not v < RHAT)
        small_ess = _list_entries(stats.ess(parameters, method="bulk"), lambda v: not v > ESS)
    if large_rhat:
        problems.append(f"chains differ (R-hat of {RHAT} or more) in {large_rhat}")
    if small_ess:
        problems.append(f"effective draws are {ESS:g} or fewer for {small_ess}")
    return problems


def _list_entries(values: Any, condition: Any) -> str:
    """List the first five entries of a dataset that satisfy a condition, with their values."""
    entries = []
    dataset = values.to_dataset() if hasattr(values, "to_dataset") else values
    for name, array in dataset.data_vars.items():
        for at in np.ndindex(array.shape):
            value = float(array.values[at])
            if np.isnan(value) or not condition(value):
                continue
            labels = ", ".join(
                str(array.coords[d].values[i]) for d, i in zip(array.dims, at, strict=True)
            )
            entries.append(f"{name}[{labels}] ({value:.4g})" if labels else f"{name} ({value:.4g})")
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    return ", ".join(entries[:5]) + more
