"""Marginal means and contrasts on the scale of the response.

With the mean m(eta) of the link and the variance v of the random effects, a mean on the scale of
the response is m(eta), or adjusted for the bias of the back-transformation ``m(eta) + v/2
m''(eta)``, the expectation over the random effects to second order. Standard errors are by the
delta method; limits are transformed. A difference of two linear predictors has an exponential that
is a ratio: of odds, hazards or means. Where the formula transforms the response, m is the inverse
of the transformation, and v includes the residual variance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.family import Family
from mixedfx.inference import wald
from mixedfx.inference.emmeans.response_transformation import (
    ResponseTransformation,
    response_transformation,
)
from mixedfx.inference.random_variance import random_variance

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

# A sum of coefficients this near to zero, relative to their size, is zero.
_ROUNDING = 1e-12


class MeanFunction(Protocol):
    """Mean of the response as a function of the linear predictor."""

    @property
    def predictor_name(self) -> str:
        """The linear predictor in words; empty where it is the mean."""
        ...

    @property
    def mean_name(self) -> str:
        """The mean in words."""
        ...

    @property
    def link(self) -> Any:
        """Domain of the linear predictor."""
        ...

    @property
    def ratio(self) -> str | None:
        """What exponentials of differences are; None: nothing of the mean."""
        ...

    @property
    def ratio_of(self) -> str:
        """What ratios are of, where that is not the mean."""
        ...

    @property
    def ratio_unit(self) -> float:
        """Factor of a difference whose exponential is the ratio."""
        ...

    def mean(self, eta: Vector) -> Vector:
        """Mean at a linear predictor."""
        ...

    def mean_derivatives(self, eta: Vector) -> tuple[Vector, Vector, Vector]:
        """First three derivatives of the mean by eta."""
        ...


@dataclass(frozen=True)
class FamilyMean:
    """Mean of the response of a family."""

    family: Family
    params: Vector  # (r,) of the family

    @property
    def predictor_name(self) -> str:
        """That of the family."""
        return self.family.predictor_name

    @property
    def mean_name(self) -> str:
        """That of the family."""
        return self.family.response_mean_name

    @property
    def link(self) -> Any:
        """That of the family."""
        return self.family.link

    @property
    def ratio(self) -> str | None:
        """That of the family."""
        return self.family.ratio

    @property
    def ratio_of(self) -> str:
        """What ratios are of, where that is not the mean."""
        own, other = self.family.mean_name, self.family.response_mean_name
        return f" of the {own}" if own != other else ""

    @property
    def ratio_unit(self) -> float:
        """One."""
        return 1.0

    def mean(self, eta: Vector) -> Vector:
        """Mean of the response."""
        return self.family.response_mean(eta, self.params)

    def mean_derivatives(self, eta: Vector) -> tuple[Vector, Vector, Vector]:
        """Its derivatives."""
        return self.family.response_mean_derivatives(eta, self.params)


@dataclass(frozen=True)
class TransformedResponse:
    """Median of a response that the formula transforms, a linear model's."""

    link: ResponseTransformation

    @property
    def predictor_name(self) -> str:
        """The transformed response."""
        return f"transformed response {self.link.code}"

    @property
    def mean_name(self) -> str:
        """The column."""
        return f"response {self.link.column}, transformed back"

    @property
    def ratio(self) -> str | None:
        """That of the transformation."""
        return self.link.ratio

    @property
    def ratio_of(self) -> str:
        """Nothing else."""
        return ""

    @property
    def ratio_unit(self) -> float:
        """That of the transformation."""
        return self.link.ratio_unit

    def mean(self, eta: Vector) -> Vector:
        """Value of the column."""
        return self.link.mean(eta)

    def mean_derivatives(self, eta: Vector) -> tuple[Vector, Vector, Vector]:
        """Its derivatives."""
        return self.link.mean_derivatives(eta)


def mean_function(fit: FittedModel) -> MeanFunction:
    """Mean function of the family, or the inverse of the transformation of the response."""
    transformation = response_transformation(fit.formula.response)
    if fit.spec.residual.linear and transformation is not None:
        return TransformedResponse(transformation)
    return FamilyMean(fit.spec.family, fit.residual.distribution_params)


def check_mean_of_coefficients(fit: FittedModel) -> None:
    """Refuse where the mean depends on more than one linear predictor, which errors are of."""
    fit.spec.residual.check_one_mean()
    family, params = fit.spec.family, fit.residual.distribution_params
    if family.response_mean_by_params(np.zeros(1), params) is not None:
        raise ArgumentError(
            f"which='mean': the mean of {family} depends on {', '.join(family.param_names)} too, "
            "of which standard errors here know nothing. Take which='linear', or compare means: "
            "fit.emmeans(..., at=..., which='mean')."
        )


def bias_variance(fit: FittedModel) -> float:
    """Variance about a linear predictor that the mean of the response is averaged over."""
    variance = random_variance(fit)
    if isinstance(mean_function(fit), TransformedResponse):
        variance += float(fit.solution.sigma**2)
    return variance


@dataclass(frozen=True)
class LinkScale:
    """Means of the linear predictor, contrasts that are differences."""

    # Columns of a table of means after the levels, the estimates first.
    columns: ClassVar[tuple[str, ...]] = ("emmean", "std_error", "df", "conf_low", "conf_high")

    response: MeanFunction

    @property
    def slope_of(self) -> str | None:
        """Variable along which slopes are; None of means."""
        return None

    def transform(self, means: pd.DataFrame) -> pd.DataFrame:
        """Means as they are."""
        return means

    def contrasted(self, fit: FittedModel, which: str) -> LinkScale:
        """Scale of contrasts by its name."""
        return scale_of(fit, which)

    def regridded(self, fit: FittedModel) -> RegriddedScale | None:
        """Scale of means of the response as estimates of their own; None where they are that."""
        if not self.response.predictor_name:
            return None
        fit.spec.residual.check_one_mean()
        return RegriddedScale(self.response)

    @property
    def caption(self) -> str:
        """What the means are of, where it is not the mean of the response."""
        predictor = self.response.predictor_name
        return f"Means are of the {predictor}." if predictor else ""

    def ratio_name(self, coefficients: Matrix) -> str | None:
        """Name of the ratios that contrasts are; None where they are differences."""
        return None

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of, where they are not differences of means."""
        if ratio is not None:
            name = ratio.replace("_", " ")
            return f"The null value of the {name}s{self.response.ratio_of} is 1."
        predictor = self.response.predictor_name
        return f"Contrasts are differences of the {predictor}." if predictor else ""


@dataclass(frozen=True)
class ResponseScale(LinkScale):
    """Means of the response, contrasts that are ratios where the link has them."""

    bias_variance: float | None = None  # about the linear predictor; None: not adjusted

    def regridded(self, fit: FittedModel) -> RegriddedScale | None:
        """The same, adjusted or not."""
        own = super().regridded(fit)
        return None if own is None else replace(own, bias_variance=self.bias_variance)

    def transform(self, means: pd.DataFrame) -> pd.DataFrame:
        """Means, standard errors and limits on the scale of the response."""
        link = self.response.link
        columns = {name: means[name].to_numpy(dtype=float) for name in _ESTIMATES}
        low, high = link.within_domain(columns["conf_low"], columns["conf_high"])
        ends = self.mean_and_slope(low)[0], self.mean_and_slope(high)[0]
        mean, slope = self.mean_and_slope(columns["emmean"])
        return means.assign(
            emmean=mean,
            std_error=np.abs(slope) * columns["std_error"],
            conf_low=np.minimum(*ends),  # links may decrease
            conf_high=np.maximum(*ends),
        )

    def mean_and_slope(self, eta: Vector) -> tuple[Vector, Vector]:
        """Mean of the response, adjusted or not, and its derivative by eta."""
        mu = self.response.mean(eta)
        first, second, third = self.response.mean_derivatives(eta)
        if self.bias_variance is None:
            return mu, first
        half = 0.5 * self.bias_variance
        return mu + half * second, first + half * third

    @property
    def caption(self) -> str:
        """What the means are of, and at which random effects."""
        if not self.response.predictor_name:
            return ""
        about = "random effects"
        if isinstance(self.response, TransformedResponse):
            about = "random effects and residuals"
        at = f"at {about} of zero"
        if self.bias_variance is not None:
            at = f"adjusted for {about} of variance {self.bias_variance:.4g}"
        return f"Means are of the {self.response.mean_name}, {at}."

    def ratio_name(self, coefficients: Matrix) -> str | None:
        """Name of the link's ratios, where the coefficients of all contrasts sum to zero."""
        size = np.abs(coefficients).sum(axis=1)
        sums_to_zero = np.abs(coefficients.sum(axis=1)) <= _ROUNDING * size
        ratio = self.response.ratio
        return ratio.replace(" ", "_") if ratio is not None and sums_to_zero.all() else None


@dataclass(frozen=True)
class RegriddedScale(ResponseScale):
    """Means of the response as estimates of their own: contrasts are differences of them."""

    def transform(self, means: pd.DataFrame) -> pd.DataFrame:
        """Means as they are."""
        return means

    def contrasted(self, fit: FittedModel, which: str) -> LinkScale:
        """Refuse the linear predictor, of which these means are not."""
        check_choice("which", which, ("linear", "mean"))
        if which == "linear":
            raise ArgumentError(
                "contrasts(which='linear'): regrid() has left the linear predictor; compare the "
                "means before it."
            )
        return self

    def regridded(self, fit: FittedModel) -> None:
        """They are estimates of their own."""

    def ratio_name(self, coefficients: Matrix) -> str | None:
        """None: differences."""
        return None

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of."""
        return f"Contrasts are differences of the {self.response.mean_name}."


_ESTIMATES = ("emmean", "std_error", "conf_low", "conf_high")
_SHOWN = ["estimate", "conf_low", "conf_high"]


def exponentiated(contrasts: pd.DataFrame, name: str, unit: float) -> pd.DataFrame:
    """Contrasts as ratios, exponentials of so many times them; tests stay as they are."""
    scaled = contrasts.copy()
    scaled[[*_SHOWN, "std_error"]] *= unit
    if unit < 0.0:
        low, high = scaled["conf_high"], scaled["conf_low"]
        scaled = scaled.assign(std_error=-scaled["std_error"], conf_low=low, conf_high=high)
    return wald.exponentials(scaled).rename(columns={"estimate": name})


def scale_of(fit: FittedModel, which: str, *, variance: float | None = None) -> LinkScale:
    """Scale by its name, ``which``, of a fit; adjusted for a variance or not."""
    check_choice("which", which, ("linear", "mean"))
    if which == "mean":
        fit.spec.residual.check_one_mean()
    mean = mean_function(fit)
    return LinkScale(mean) if which == "linear" else ResponseScale(mean, variance)
