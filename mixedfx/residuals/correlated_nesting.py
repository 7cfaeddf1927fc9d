"""Whether one model of correlated residuals is a special case of another, in the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.special_cases import is_special_case

Codes = npt.NDArray[np.intp]


def is_nested_structure(small: Any, large: Any) -> bool:
    """With the same subjects and positions, a more special structure and no more strata."""
    a, b = small.spec, large.spec
    if not is_special_case(a.structure, b.structure):
        return False
    # Structures of columns do not depend on distances, and some of theirs are those at any.
    by_distance = all(spec.covariance.design != "effects" for spec in (a, b))
    if by_distance and not np.array_equal(a.at.distances, b.at.distances):
        return False
    same = (small.subjects, large.subjects), (small.positions, large.positions)
    return all(_refines(x, y) and _refines(y, x) for x, y in same) and _refines(
        large.strata, small.strata
    )


def _refines(fine: Codes, coarse: Codes) -> bool:
    """Whether rows of one code of the first have one code of the second."""
    pairs = np.unique(np.column_stack([fine, coarse]), axis=0)
    return len(pairs) == len(np.unique(fine))
