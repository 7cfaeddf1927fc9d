"""Independent streams of random numbers, one for each draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedfx.errors import ArgumentError


def spawn_generators(rng: Any, n: int) -> list[np.random.Generator]:
    """Spawn one generator for each of ``n`` draws."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ArgumentError(f"n={n!r} must be a positive integer: how many to draw.")
    try:
        return np.random.default_rng(rng).spawn(int(n))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"rng={rng!r} must be a seed (an integer that is not negative), a "
            f"numpy.random.Generator that can be spawned from, or None: {error}"
        ) from None
