"""Stateful transforms of a formula, learned from rows in chunks: center(x), scale(x), and others.

What a transform learns from a sample is replaced by what it learns from all rows, in passes of its
own. Transforms that need all rows at once are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from patsy import DesignInfo
from patsy.state import Center

from mixedfx._names import written
from mixedfx.errors import DataError

# Of patsy's own transforms, that whose state is one of sums.
_PATSY_IN_CHUNKS = (Center,)
_ADVICE = {
    "_Poly": "poly(x, 2, raw=True), or center(x) and its powers,",
    "_Remember": "center(x) or scale(x)",
    "_BSplines": "bs(x, knots=[...], boundary_knots=(a, b))",
    "_NaturalSplines": "ns(x, knots=[...], boundary_knots=(a, b))",
}


def learn_transforms(
    infos: Iterable[DesignInfo], chunks: Callable[[], Iterator[Mapping[str, Any]]]
) -> int:
    """Learn the state of all transforms from all rows; returns the number of passes over them."""
    learned: dict[Any, list[dict[str, Any]]] = {}
    for info in infos:
        for factor, known in info.factor_infos.items():
            if known.state["transforms"]:
                _check_in_chunks(factor, known.state)
                learned.setdefault(factor, []).append(known.state)
    if not learned:
        return 0
    fresh: dict[Any, dict[str, Any]] = {factor: {} for factor in learned}
    passes: dict[Any, int] = {
        factor: factor.memorize_passes_needed(state, learned[factor][0]["eval_env"])
        for factor, state in fresh.items()
    }
    with np.errstate(all="ignore"):
        for which in range(max(passes.values())):
            due = [factor for factor, n in passes.items() if which < n]
            for variables in chunks():
                for factor in due:
                    factor.memorize_chunk(fresh[factor], which, variables)
            for factor in due:
                factor.memorize_finish(fresh[factor], which)
    for factor, states in learned.items():
        for state in states:
            state.clear()
            state.update(fresh[factor])
    return max(passes.values())


def _check_in_chunks(factor: Any, state: Mapping[str, Any]) -> None:
    for transform in state["transforms"].values():
        kind = type(transform).__name__
        known = isinstance(transform, _PATSY_IN_CHUNKS)
        known = getattr(transform, "learned_in_chunks", known)
        if not known:
            advice = _ADVICE.get(kind, "values that are computed beforehand, as a column")
            raise DataError(
                f"term '{written(factor.name())}' is learned from all rows at once, which are "
                f"read in chunks here: write {advice} instead, or add its values to the data as "
                "columns."
            )
