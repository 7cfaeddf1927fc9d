"""Influence of the levels of a group on a generalised fit whose rows are in a file."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.blocked_deletion import BlockedDeletion
from mixedfx.inference.influence import table_of_changes
from mixedfx.linalg.blas_threads import single_threaded_blas


def level_influence(fit: FittedModel, group: str, method: str) -> pd.DataFrame:
    """Change of the estimates on leaving out each level of a group."""
    deletion, levels = BlockedDeletion.of(fit, group), fit.spec.levels_of(group)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        found = [deletion.without_level(i, method) for i in range(len(levels))]
    changes, nobs = np.array(found) - deletion.estimates, deletion.counts.astype(np.intp)
    return table_of_changes(fit, changes, deletion.names, nobs, levels.labels.rename(group))
