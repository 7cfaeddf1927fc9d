"""The reference models of R with a family: data, parameters by our names, fits, likelihoods."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from reference_models import FOLDER, Reference, records, typed

import mixedfx as mfx
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows

_OF_BETA_BINOMIAL = (
    "alpha = mu phi, beta = (1 - mu) phi; Var(k) = n mu (1 - mu) (phi + n) / (phi + 1)"
)
_FAMILIES = {"Gamma": "gamma", "inverse.gaussian": "inverse_gaussian"}


@dataclass(frozen=True)
class GeneralizedReference(Reference):
    """One reference model of a family other than the normal."""

    @property
    def family(self) -> str:
        return _FAMILIES.get(self["family"], self["family"])

    @cached_property
    def data(self) -> pd.DataFrame:
        return typed(pd.read_csv(FOLDER / "generalized" / "data" / self["data"]), self["factors"])

    @property
    def nagq(self) -> int:
        return self["nAGQ"]

    @property
    def family_params(self) -> list[float]:
        """Parameters of the family as ours are defined, from R's definition."""
        if "thresholds" in self.record:
            return [row["estimate"] for row in self["thresholds"]]
        dispersion = self["dispersion"]
        if dispersion is None or self.record.get("dispformula"):
            return []
        if dispersion.get("power"):
            return [dispersion["value"], dispersion["power"]]
        if dispersion.get("value") is not None:
            return [self._by_our_definition(dispersion["value"])]
        # The plain code estimates the logarithm: of Gamma's, that of the shape.
        value = np.exp(dispersion["fixef"][0]["estimate"])
        return [1.0 / value if self.family == "gamma" else self._by_our_definition(value)]

    def _by_our_definition(self, value: float) -> float:
        translate = {
            "Var = sigma^2 mu^2 (shape = 1 / sigma^2); value is sigma": value**2,
            "Var = mu (1 + mu / phi)": 1.0 / value,
            "Var = mu (1 + phi)": value,
            "Var = phi mu^3": value,
            "Var = mu (1 - mu) / (1 + phi)": value,
            "untruncated Var = mu (1 + mu / phi)": 1.0 / value,
            _OF_BETA_BINOMIAL: value,
        }
        return translate[self["dispersion"]["definition"]]

    def coordinates(self, check, family) -> np.ndarray:
        """Coordinates of the family's parameters: thresholds, or TMB's log parameters."""
        if self.record.get("dispformula"):
            return np.zeros(0)
        if "thresholds" in check:
            return family.coordinates(np.array(check["thresholds"]))
        if self.family == "tweedie":
            params = np.array(self.family_params)
            return np.append(check["disp"], family.coordinates(params)[1])
        # That of Gamma is the log of the shape.
        reciprocal = self.family in ("gamma", "nbinom2", "truncated_nbinom2")
        return np.array([-v if reciprocal else v for v in check.get("disp") or []])

    def fit(self, formula: str | None = None) -> mfx.Results:
        """Fit the model, or one of another formula."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mfx.glmer(
                formula or self["formula_py"],
                self.data,
                family=self.family,
                link=self["link"],
                nagq=self.nagq,
                weights=self["weights"],
                offset=self["offset"],
                zero_inflation=self.record.get("ziformula"),
                dispersion=self.record.get("dispformula"),
            )

    def point(self, fit, rows, check) -> Point:
        """Point of the likelihood that R was evaluated at."""
        beta = pd.Series(check["beta"], self.fixed_names)[fit.params.index].to_numpy()
        if self.record.get("ziformula"):
            beta = np.append(beta, check["zi"])
        if self.record.get("dispformula"):
            sign = -1.0 if self.family == "nbinom2" else 1.0
            beta = np.append(beta, sign * np.array(check["disp"]))
        factors = fit.model.crossprod.factors_at(self.theta(check["theta"], fit))
        coordinates = self.coordinates(check, rows.family)
        return Point(tuple(factors), basis_coefficients(rows, beta), coordinates)

    def loglik_at(self, fit, check, nagq: int = 1) -> float:
        """Log-likelihood there, by ours."""
        several = fit.model.residual.predictors
        rows = (several_rows if several else GeneralizedRows.of)(fit.model.design)
        at = GeneralizedLikelihood(rows, nagq).at(self.point(fit, rows, check))
        return -0.5 * at.deviance

    @property
    def reduced_formula(self) -> str:
        """The formula without the term of the likelihood ratio test."""
        return f"{self['formula_py']} - {self['lrt']['dropped']}"


GENERALIZED = {
    name: GeneralizedReference(record) for name, record in records("generalized/models").items()
}
# Of each family, link and structure there is another here that costs less.
COSTLY = {
    *("owls_nb1__laplace", "chick_gamma__laplace", "verbagg_slope__laplace"),
    *("bacteria_cloglog__laplace", "cbpp_cloglog__agq9", "gamma_inverse__agq9"),
    *("invgauss_log__agq9", "salam_zip__agq9", "salam_hurdle_pois__laplace", "owls_zip__laplace"),
}


@cache
def generalized_fit(name: str) -> mfx.Results:
    """Fit a reference model once."""
    return GENERALIZED[name].fit()
