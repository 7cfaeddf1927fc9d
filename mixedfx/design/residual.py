"""Residual model of a design: what it is called and what it estimates, and its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]


class ResidualRows:
    """Columns of a residual model in the rows of a design; none of this class itself."""

    @property
    def log_sd_columns(self) -> Matrix | None:
        """Columns in which the log sds are linear, (n, q), where the model has them."""
        return None

    def subset(self, spec: Any, keep: Mask | Codes) -> tuple[Any, Self]:
        """Select rows; returns the specification and the columns."""
        return spec, self

    @property
    def dispersion_variables(self) -> Mapping[str, pd.Series]:
        """Variables of the dispersion formula, in the rows."""
        return {}

    @property
    def designs(self) -> Mapping[str, Any]:
        """Designs of further linear predictors, by argument."""
        return {}

    def without_variables(self) -> Self:
        """Arrays alone, which can be pickled."""
        return self

    def of_submodel(self, sums: Callable[[], Any]) -> Self:
        """The same of fewer columns of the linear predictor, where it has sums of them."""
        return self

    def is_special_case_of(self, other: ResidualRows) -> bool:
        """Whether all covariances of the residuals are among those of another model."""
        return False

    def equally_correlated(self) -> npt.NDArray[np.intp] | None:
        """Subject of each row, where one correlation within them is a special case."""
        return None

    def beside(self, model: Any) -> Any:
        """Another structure of correlated residuals, with all else that these have."""
        return model

    def summarized(self, name: str, compute: Callable[[], Any]) -> Any:
        """Summary of the rows, see :mod:`mixedfx.design.slim`."""
        return compute()


class ResidualSpec:
    """What a residual model is called, and what it estimates; no rows."""

    linear: ClassVar[bool] = True  # whether the response is linear in normal effects
    kind: ClassVar[str] = "linear"
    kind_without_effects: ClassVar[str] = "linear regression"
    residuals_title: ClassVar[str] = "Scaled residuals"  # of their quantiles in the summary
    params_title: ClassVar[str] = "Log residual standard deviation"
    estimates_sigma: ClassVar[bool] = True
    # Methods of denominator degrees of freedom; the first is the default.
    df_methods: ClassVar[tuple[str, ...]] = (
        "satterthwaite",
        "kenward-roger",
        "kenward-roger-linear",
        "residual",
        "normal",
    )
    equal_variances: ClassVar[bool] = False  # all rows of weight one have the variance sigma**2
    # kind of the reported coefficients among a model's parameters
    coefficient_kind: ClassVar[Literal["dispersion", "family"]] = "dispersion"
    residual_sd: ClassVar[Literal["known", "modelled"] | None] = "modelled"  # in graphs

    # What which= of predict() can be.
    predicted: ClassVar[tuple[str, ...]] = ("mean", "linear")

    @property
    def reports_sigma(self) -> bool:
        """Whether sigma is a parameter beside those of the residual model."""
        return self.estimates_sigma

    @property
    def argument(self) -> str:
        """Argument of ``lmer`` that asks for the model, with its value."""
        return ""

    @property
    def further_arguments(self) -> dict[str, str]:
        """Arguments of further linear predictors, with their values."""
        return {}

    @property
    def keyword(self) -> str:
        """Name of that argument."""
        return self.argument.partition("=")[0]

    @property
    def label(self) -> str:
        """What the model adds to the formula in one line; empty where nothing."""
        return ""

    @property
    def n_nodes(self) -> int:
        """Nodes by which each effect of a level is integrated out; 0: exactly."""
        return 0

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Lines of the summary's header, of a model with random effects or without."""
        return ()

    def method(self, *, mixed: bool, reml: bool) -> str:
        """How the estimates were found, in short."""
        return "REML" if reml else "ML"

    def criterion_text(self, deviance: float, *, reml: bool) -> str:
        """Name and value of the criterion at the optimum."""
        name = "REML criterion" if reml else "deviance"
        if self.has_random_effects:
            name += " by Laplace's approximation"
        return f"{name} {deviance:.4f}"

    @property
    def explanation(self) -> str | None:
        """What the equations say of the residual standard deviation."""
        return None

    def covariance_structure(self) -> str | None:
        """Structure whose formula gives the covariance of two residuals; None: no such."""
        return None

    @property
    def dependence(self) -> str:
        """Sentence on rows whose residuals depend on each other; empty where none do."""
        return ""

    @property
    def scale_terms(self) -> tuple[Any, ...]:
        """Random terms of the log residual standard deviation."""
        return ()

    @property
    def has_random_effects(self) -> bool:
        """Whether the residual standard deviation has random effects."""
        return bool(self.scale_terms)

    @property
    def sampling_refusal(self) -> str:
        """Why there are no posterior draws, and what to do instead; empty where there are."""
        return ""

    @property
    def n_params(self) -> int:
        """Number of parameters beside sigma."""
        return 0

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of the reported coefficients."""
        return ()

    def full_name(self, name: str) -> str:
        """Name of a coefficient that is unique in a fit."""
        return f"residual({name})"

    def with_structure(self, name: str) -> str:
        """``residual=`` with another covariance structure; ArgumentError where there is none."""
        raise ArgumentError(
            "compare_structures() takes a fit with correlated residuals, such as "
            "residual='us(visit | patient)'."
        )

    def is_log_sd(self, full_name: str) -> bool:
        """Whether a reported parameter is one of the log residual standard deviations."""
        return True

    def is_own(self, full_name: str) -> bool:
        """Whether a reported parameter is no coefficient of a further linear predictor."""
        return True

    def check_one_variance(self, what: str, instead: str) -> None:
        """Raise ArgumentError where the model has parameters beside sigma."""
        if self.n_params:
            raise ArgumentError(
                f"{what} takes one residual variance, and this fit has {self.argument}: {instead}."
            )

    def check_one_predictor(self, what: str, instead: str = "") -> None:
        """Raise ArgumentError where there are several linear predictors."""

    def check_working_model(self, what: str) -> None:
        """Raise ArgumentError where the response has no one working linear model of its mean."""

    @property
    def has_several_means(self) -> bool:
        """Whether the mean of the response depends on several linear predictors."""
        return False

    def check_one_mean(self) -> None:
        """Raise ArgumentError where the mean depends on several linear predictors."""

    def check_priors(self) -> None:
        """Raise ArgumentError where priors= are not fitted."""

    def check_df_method(self, method: str) -> None:
        """Raise ArgumentError for degrees of freedom that the model does not have."""

    def check_kenward_roger(self) -> None:
        """Raise ArgumentError where Kenward and Roger's method is not computed."""
        self.check_one_variance("Kenward and Roger's method", "take df_method='satterthwaite'")

    def check_covariance_intervals(self, what: str, instead: str) -> None:
        """Raise ArgumentError where Wald intervals of the covariances are not computed."""
        self.check_one_variance(what, instead)

    def check_modelled(self) -> None:
        """Raise ArgumentError where the residual standard deviation is not modelled."""
        if not self.coefficient_names:
            raise ArgumentError(
                "this fit has one residual standard deviation; fit with dispersion= to let it "
                "differ."
            )

    def without_evaluation(self) -> Self:
        """Names alone, which can be pickled."""
        return self


@dataclass(frozen=True)
class ResidualRequest:
    """A residual model asked for by name, and a dispersion formula beside it."""

    formula: Formula  # whose variables it reads
    build: Callable[[Mapping[str, pd.Series]], tuple[ResidualSpec, ResidualRows]]
    dispersion: Formula | None = None
    # Joins the rows of the model and the columns of the dispersion formula.
    combine: Callable[..., tuple[ResidualSpec, ResidualRows]] | None = None

    @property
    def parts(self) -> dict[str, Formula | None]:
        """Formulas that are read, by argument."""
        return {"residual": self.formula, "dispersion": self.dispersion}

    @property
    def read(self) -> Formula:
        """All that is read."""
        if self.dispersion is None:
            return self.formula
        random = self.dispersion.random + self.formula.random
        return replace(self.dispersion, random=random)


@dataclass(frozen=True)
class EqualVariances(ResidualSpec):
    """One residual variance."""

    equal_variances = True
    residual_sd = None


@dataclass(frozen=True)
class KnownStandardDeviations(ResidualSpec):
    """Residual standard deviations that are given: their inverse squares are the weights."""

    column: str | None  # column of the data, if they were given by name

    estimates_sigma = False
    residual_sd = "known"

    @property
    def argument(self) -> str:
        """The argument of ``lmer``."""
        return "residual_sd="

    @property
    def label(self) -> str:
        """After the formula."""
        return "residual sds known"

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Line of the summary."""
        return (("Residual", "standard deviations known"),)

    @property
    def explanation(self) -> str | None:
        """Note of the equations."""
        return "given"


@dataclass(frozen=True)
class WrittenResidual(ResidualSpec):
    """A residual model that is asked for by the text of ``residual=``."""

    text: str  # as asked for: us(visit | patient)

    @property
    def argument(self) -> str:
        """The argument of ``lmer``."""
        return f"residual='{self.text}'"

    @property
    def label(self) -> str:
        """After the formula."""
        return f"residual {self.text}"

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Line of the summary."""
        return (("Residual", self.text),)


@dataclass(frozen=True)
class NamedResidual(WrittenResidual):
    """A registered residual model, asked for by ``residual="name(columns)"``."""

    names: tuple[str, ...]  # of its parameters

    @property
    def explanation(self) -> str | None:
        """Note of the equations."""
        return f"modelled by '{self.text}'"

    @property
    def n_params(self) -> int:
        """The number of names."""
        return len(self.names)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """The names."""
        return self.names
