"""Parameters of a family beside the mean, and the unbounded coordinates in which they are searched.

Coordinates are the parameters' logarithms unless a family writes ``coordinates``, its inverse
``natural``, and the derivatives of that.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import AllDerivatives

# A parameter below this is zero: alpha of counts that vary as Poisson's do.
NEAR_ZERO = 1e-6
# Largest size of the logarithm of a parameter.
LARGEST_LOG = 200.0

Array = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
# On which the interval of a parameter is symmetric.
ParamScale = Literal["identity", "log", "power"]


def from_logs(logs: Vector) -> Vector:
    """Positive numbers of these logarithms, kept off zero in double precision."""
    return np.asarray(np.exp(np.minimum(np.maximum(logs, -LARGEST_LOG), LARGEST_LOG)))


class FamilyParameters:
    """What a family says of its parameters, ``param_names``."""

    # Names of the families that are limits of this one, and the parameters at whose value of zero,
    # or at whose infinite value, they are.
    limits: ClassVar[tuple[str, ...]] = ()
    vanishing: ClassVar[tuple[str, ...]] = ()
    infinite: ClassVar[tuple[str, ...]] = ()

    # Why a likelihood without a maximum rises at the end where a search is stopped, in words
    rises_at_end: ClassVar[str] = ""

    # Values that the parameters can have, in words
    param_range: ClassVar[str] = "must be above 0"

    @property
    def param_names(self) -> tuple[str, ...]:
        """Their names; a class attribute where these do not depend on the response."""
        return ()

    @property
    def param_symbols(self) -> tuple[str, ...]:
        """Names of what is drawn for them: one of several that belong together."""
        return self.param_names

    @property
    def param_scales(self) -> tuple[ParamScale, ...]:
        """Scale on which each parameter's interval is symmetric."""
        return tuple("log" for _ in self.param_names)

    def coordinates(self, params: Vector) -> Vector:
        """Unbounded coordinates of the parameters, in which they are searched, (r,)."""
        return np.asarray(np.log(params))

    def natural(self, coordinates: Vector) -> Vector:
        """Parameters at coordinates."""
        return from_logs(coordinates)

    def distance_to_end(self, coordinates: Vector) -> float:
        """How far coordinates are from where a search for them is stopped; beyond it below zero."""
        return np.inf

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Derivatives of the parameters, a row each, by the coordinates, (r, r)."""
        return np.diag(self.natural(coordinates))

    def all_derivatives(
        self, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> AllDerivatives | None:
        """Derivatives that Laplace's Hessian needs, of eta (n,); None: differences are taken."""
        return None

    def about(self, number: int) -> Self:
        """The same family, in whose coordinates one parameter is a function of its own alone."""
        return self

    def first_params(self, y: Vector, w: Vector | None) -> Vector:
        """Parameters before anything is known of the means."""
        return np.ones(len(self.param_names))

    def can_be_large(self, w: Vector | None) -> bool:
        """Whether log densities at these can be large numbers, whose sums lose digits."""
        return True

    def rescaled(self, params: Vector, factor: float) -> Vector:
        """Parameters of a linear predictor in other units; most do not depend on them."""
        return params

    def at_limit(self, params: Array) -> Mask:
        """Whether each parameter is so small, or so large, that the family is one of its limits."""
        if not (self.vanishing or self.infinite):
            return np.zeros(np.shape(params), dtype=bool)
        at_zero, at_infinity = (
            np.array([name in names for name in self.param_names], dtype=bool)
            for names in (self.vanishing, self.infinite)
        )
        return (at_zero & (params < NEAR_ZERO)) | (at_infinity & (params > 1.0 / NEAR_ZERO))
