"""Independent streams of random numbers, one for each draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedfx.errors import ArgumentError, brief, check_count


def spawn_generators(rng: Any, n: int) -> list[np.random.Generator]:
    """Spawn one generator for each of ``n`` draws."""
    n = check_count("n", n)
    try:
        return np.random.default_rng(rng).spawn(n)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"rng={brief(rng)} must be a seed (an integer that is not negative), a "
            f"numpy.random.Generator that can be spawned from, or None: {error}"
        ) from None
