"""Influence of the levels of grouping factors on the coefficients and on theta.

Beside Cook's distance of the coefficients (flagged above ``4 / levels``) there is the largest
change of one of them in standard errors (above ``2 / sqrt(levels)``; Belsley, Kuh and Welsch 1980),
and Cook's (1986, J. R. Stat. Soc. B 48:133) displacement of the profiled likelihood by the change
of the m entries of theta, ``(d(theta_(i)) - d(theta)) / m``, which is on the scale of the distance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import MixedfxError, RowsNotInMemory
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.doctor.refits import Clock
from mixedfx.inference.influence import influence_groups

# Levels are left out one by one where that is cheap: rows times levels.
_MOST_DELETIONS = 3_000_000
COLUMNS = ["group", "level", "number", "cooks_distance", "displacement", "largest_shift", "of"]
COLUMNS += ["influential"]


def influence_of_levels(fit: FittedModel, clock: Clock) -> pd.DataFrame:
    """A row for each level of each grouping factor whose levels can be left out."""
    parts = []
    for group in influence_groups(fit):
        size = clock.models.deletion_size(fit)
        if fit.spec.ngroups.get(group, 0) * size > _MOST_DELETIONS:
            clock.too_large.append(group)
            continue
        if not clock.allows(f"influence of {group}"):
            continue
        begin = clock.seconds
        try:
            found = clock.models.influence(fit, group)
        except RowsNotInMemory:
            clock.without_rows.append(f"influence of {group}")
            continue
        except (MixedfxError, np.linalg.LinAlgError):
            continue
        parts.append(_of_group(fit, group, found))
        clock.count((clock.seconds - begin) / max(len(found), 1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _of_group(fit: FittedModel, group: str, found: pd.DataFrame) -> pd.DataFrame:
    n, p = len(found), fit.crossprod.p
    values = found.to_numpy(dtype=float)
    distance, beta = values[:, 1], values[:, 2 : 2 + p]
    shift = np.abs(np.nan_to_num(beta / np.sqrt(np.diag(fit.solution.vcov))))
    largest = shift.max(axis=1, initial=0.0)
    displacement = _displacement(fit, found)
    flagged = (distance > 4.0 / n) | (largest > 2.0 / np.sqrt(n)) | (displacement > 4.0 / n)
    names = np.asarray(fit.spec.X_names, dtype=object)
    columns = {
        "group": group,
        "level": found.index.astype(str),
        "number": np.arange(n),
        "cooks_distance": distance,
        "displacement": displacement,
        "largest_shift": largest,
        "of": names[shift.argmax(axis=1)] if p else "",
        "influential": flagged,
    }
    return pd.DataFrame(columns)


def _displacement(fit: FittedModel, found: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Displacement of the likelihood by each level's change of theta; NaN where it is not one."""
    names = [f"theta[{i}]" for i in range(fit.crossprod.parametrization.size)]
    if fit.residual.model.estimator != "engine" or not names:
        return np.full(len(found), np.nan)
    theta, values = fit.solution.theta, []
    for change in found[names].to_numpy(dtype=float):
        if not np.isfinite(change).all():
            values.append(np.nan)
            continue
        values.append((fit.likelihood.deviance(theta + change) - fit.deviance) / len(names))
    return np.array(values)
