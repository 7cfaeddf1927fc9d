"""Log-linear residual standard deviations, with or without random effects.

``log sd = D gamma + v``: :class:`LogLinear` has no ``v`` (a variance function in nlme, Pinheiro
and Bates 2000, section 5.2); :class:`LocationScale` has normal effects of the levels of its random
terms (Hedeker, Mermelstein and Demirtas 2008, Biometrics 64:627).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.new_data import evaluate_new_dispersion
from mixedfx.errors import DispersionError
from mixedfx.residuals.coordinates import DispersionCoordinates
from mixedfx.residuals.variance_function import MAX_LOG_RATIO, VarianceFunction

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Bound of the log standard deviation where the dispersion columns are zero, from the mean.
_MAX_OFFSET = 20.0 * MAX_LOG_RATIO


@dataclass(frozen=True)
class LogLinear(VarianceFunction):
    """``log sd = D gamma``, in the coordinates of :class:`DispersionCoordinates`."""

    spec: DispersionSpec
    rows: DispersionRows

    @cached_property
    def codes(self) -> Codes:  # type: ignore[override]
        """Distinct rows of D."""
        return self.rows.stratum_codes()

    @cached_property
    def coordinates(self) -> DispersionCoordinates:
        """Coordinates ``(mu, x)`` of ``D gamma``; the parameters are ``x``."""
        coordinates: DispersionCoordinates = self.rows.summarized(
            "coordinates", lambda: DispersionCoordinates.from_columns(self.rows.D, self.codes)
        )
        return coordinates

    def stratum_label(self, row: int) -> str:
        """Values of the formula's variables."""
        return self.rows.stratum_label(row)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of the formula."""
        return tuple(self.rows.variables)

    def stratum_log_sds(self, params: Vector) -> Vector:
        """Relative to the mean over the rows."""
        return self.coordinates.stratum_columns @ params

    def log_sd_jacobian(self, params: Vector) -> Matrix:
        """The columns of the strata."""
        return self.coordinates.stratum_columns

    def centred_log_sds(self, params: Vector) -> Vector:
        """The coordinates are centred."""
        return self.stratum_log_sds(params)

    def log_sigma_offset(self, params: Vector) -> float:
        """Sigma is reported where the columns of D are zero."""
        offset = float(self.log_sigma_row[1:] @ params)
        if abs(offset) > _MAX_OFFSET:
            raise DispersionError(
                f"the columns of the dispersion formula '{self.spec.formula}' are so far from "
                "zero that the standard deviation there leaves double precision; subtract their "
                "means, for example by scale(x)."
            )
        return offset

    @property
    def coefficient_matrix(self) -> Matrix:
        """``gamma`` of ``(mu, x)``."""
        return self.coordinates.to_gamma

    @property
    def log_sigma_row(self) -> Vector:
        """Log standard deviation where D is zero, of ``(mu, x)``."""
        return self.coordinates.to_log_sigma

    def new_codes(self, data: Any) -> Codes:
        """Not used: columns of new rows need not be those of a stratum."""
        raise NotImplementedError

    def new_variances(self, data: Any, sigma: float, params: Vector) -> Any:
        """``exp(2 D gamma)``."""
        return self.variances_at(evaluate_new_dispersion(self.spec, data)[0], sigma, params)

    def drawn_variances(self, data: Any, sigmas: Vector, params: Matrix) -> Matrix:
        """The columns are evaluated once."""
        D, _ = evaluate_new_dispersion(self.spec, data)
        each = zip(sigmas, params, strict=True)
        return np.array([self.variances_at(D, sigma, x) for sigma, x in each])

    def variances_at(self, D: Matrix, sigma: float, params: Vector) -> Vector:
        """``exp(2 D gamma)`` of rows D."""
        log_sigma = float(np.log(sigma)) - self.log_sigma_offset(params)
        return np.asarray(np.exp(D @ self.coefficients(log_sigma, params)) ** 2)


@dataclass(frozen=True)
class LocationScale(LogLinear):
    """``log sd = D gamma + v``, ``v`` the sum of random terms."""

    estimator = "laplace"
    takes_related_levels = False
