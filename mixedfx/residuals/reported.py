"""How a reported parameter depends on log sigma and on the parameters that are searched.

Profiles fix one reported parameter, and search all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.structure import CovarianceStructure

Vector = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class OfLogSigma:
    """``slope (log sigma + f(params))``, or its exponential."""

    f: Callable[[Vector], tuple[float, Vector]]  # value, and gradient (k,)
    slope: float = 1.0
    exponential: bool = True

    @staticmethod
    def linear(row: Vector, *, exponential: bool) -> OfLogSigma:
        """``row @ (log sigma, params)``, or its exponential."""
        by_params = row[1:] / row[0]
        return OfLogSigma(
            lambda params: (float(by_params @ params), by_params), float(row[0]), exponential
        )


@dataclass(frozen=True)
class LinearInParams:
    """``row @ params``."""

    row: Vector  # (k,)


@dataclass(frozen=True)
class OfStructure:
    """A component of a covariance structure that sigma is no part of."""

    structure: CovarianceStructure
    at: Positions
    stratum: int
    component: Component
    number: int  # among the components of its stratum
    searched: Ints  # (m,) each parameter of the structure among those searched; -1 the scale

    @property
    def own(self) -> int | None:
        """The searched parameter that alone determines it."""
        own = self.component.parameter
        return None if own is None else int(self.searched[own])


Reported = OfLogSigma | LinearInParams | OfStructure
