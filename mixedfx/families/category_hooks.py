"""What a family says of ordered categories: nothing, but for ``cumulative``."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError

Array = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


class CategoryHooks:
    """Defaults of a family without categories."""

    name: ClassVar[str]
    ordered: ClassVar[bool] = False
    has_intercept: ClassVar[bool] = True

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of ordered categories."""
        return ()

    def probabilities(self, eta: Array, params: Vector) -> Array:
        """Probabilities of ordered categories, (K, ...)."""
        raise NotImplementedError

    def probability_derivatives(self, eta: Array, params: Vector) -> tuple[Array, Array]:
        """Their derivatives by eta, (K, ...), and by coordinates of the parameters, (r, K, ...)."""
        raise NotImplementedError

    def probability_curvature(self, eta: Array, params: Vector) -> Array:
        """Their second derivatives by eta, (K, ...)."""
        raise NotImplementedError

    def of_categories(self, labels: tuple[str, ...]) -> Self:
        """Family of ordered categories with these names; of others it is the family itself."""
        return self

    def with_thresholds(self, name: str) -> Self:
        """Family with thresholds parametrised in another way."""
        raise ArgumentError(
            f"thresholds='{name}' is of ordered categories: family='cumulative', not "
            f"family='{self.name}'."
        )
