"""Marginal means and contrasts on the scale of the response.

With the mean m(eta) of the link and the variance v of the random effects, a mean on the scale of
the response is m(eta), or adjusted for the bias of the back-transformation ``m(eta) + v/2
m''(eta)``, the expectation over the random effects to second order. Standard errors are by the
delta method; limits are transformed. A difference of two linear predictors has an exponential that
is a ratio: of odds, hazards or means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.family import Family
from mixedfx.inference import wald

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

# A sum of coefficients this near to zero, relative to their size, is zero.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class LinkScale:
    """Means of the linear predictor, contrasts that are differences."""

    family: Family
    params: Vector  # (r,) of the family

    def transform(self, means: pd.DataFrame) -> pd.DataFrame:
        """Means as they are."""
        return means

    @property
    def caption(self) -> str:
        """What the means are of, where it is not the mean of the response."""
        predictor = self.family.predictor_name
        return f"Means are of the {predictor}." if predictor else ""

    def ratio_name(self, coefficients: Matrix) -> str | None:
        """Name of the ratios that contrasts are; None where they are differences."""
        return None

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of, where they are not differences of means."""
        if ratio is not None:
            return f"The null value of the {ratio.replace('_', ' ')}s is 1."
        predictor = self.family.predictor_name
        return f"Contrasts are differences of the {predictor}." if predictor else ""


@dataclass(frozen=True)
class ResponseScale(LinkScale):
    """Means of the response, contrasts that are ratios where the link has them."""

    bias_variance: float | None = None  # of the random effects; None: not adjusted

    def transform(self, means: pd.DataFrame) -> pd.DataFrame:
        """Means, standard errors and limits on the scale of the response."""
        link = self.family.link
        columns = {name: means[name].to_numpy(dtype=float) for name in _ESTIMATES}
        low, high = link.within_domain(columns["conf_low"], columns["conf_high"])
        ends = self._mean_and_slope(low)[0], self._mean_and_slope(high)[0]
        mean, slope = self._mean_and_slope(columns["emmean"])
        return means.assign(
            emmean=mean,
            std_error=np.abs(slope) * columns["std_error"],
            conf_low=np.minimum(*ends),  # links may decrease
            conf_high=np.maximum(*ends),
        )

    def _mean_and_slope(self, eta: Vector) -> tuple[Vector, Vector]:
        """Mean of the response, adjusted or not, and its derivative by eta."""
        mu = self.family.response_mean(eta, self.params)
        first, second, third = self.family.response_mean_derivatives(eta, self.params)
        if self.bias_variance is None:
            return mu, first
        half = 0.5 * self.bias_variance
        return mu + half * second, first + half * third

    @property
    def caption(self) -> str:
        """What the means are of, and at which random effects."""
        if not self.family.predictor_name:
            return ""
        at = "at random effects of zero"
        if self.bias_variance is not None:
            at = f"adjusted for random effects of variance {self.bias_variance:.4g}"
        return f"Means are of the {self.family.mean_name}, {at}."

    def ratio_name(self, coefficients: Matrix) -> str | None:
        """Name of the link's ratios, where the coefficients of all contrasts sum to zero."""
        size = np.abs(coefficients).sum(axis=1)
        sums_to_zero = np.abs(coefficients.sum(axis=1)) <= _ROUNDING * size
        ratio = self.family.link.ratio
        return ratio.replace(" ", "_") if ratio is not None and sums_to_zero.all() else None


_ESTIMATES = ("emmean", "std_error", "conf_low", "conf_high")


def exponentiated(contrasts: pd.DataFrame, name: str) -> pd.DataFrame:
    """Contrasts as ratios; tests stay as they are."""
    return wald.exponentials(contrasts).rename(columns={"estimate": name})


def scale_of(fit: FittedModel, which: str, *, bias_variance: float | None = None) -> LinkScale:
    """Scale by its name, ``which``."""
    check_choice("which", which, ("linear", "mean"))
    family, params = fit.spec.family, fit.residual.distribution_params
    if which == "linear":
        return LinkScale(family, params)
    return ResponseScale(family, params, bias_variance)
