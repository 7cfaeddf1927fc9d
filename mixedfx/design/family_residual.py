"""Family of a generalised model, in the place of a residual model."""

from __future__ import annotations

from dataclasses import dataclass

from mixedfx.design.residual import ResidualSpec
from mixedfx.errors import ArgumentError
from mixedfx.families.family import Family


@dataclass(frozen=True)
class FamilyResidual(ResidualSpec):
    """No residual: the response has the distribution of a family around its mean."""

    family: Family
    nagq: int = 1  # nodes of quadrature; 1: Laplace's approximation

    linear = False
    kind = "generalised linear"
    kind_without_effects = "generalised linear model"
    residuals_title = "Pearson residuals"
    params_title = "Family parameters"
    estimates_sigma = False
    df_methods = ("normal",)
    residual_sd = None
    coefficient_kind = "family"

    def check_df_method(self, method: str) -> None:
        """Raise for all but the normal distribution."""
        if method not in self.df_methods:
            raise ArgumentError(
                f"df_method='{method}' gives t tests of linear models, and this one is "
                "generalised: its Wald tests are normal, df_method='normal', the default. "
                "Profile or bootstrap intervals, fit.conf_int(method='profile'), do without "
                "that approximation."
            )

    def check_covariance_intervals(self, what: str, instead: str) -> None:
        """None is refused: the marginal likelihood has all derivatives."""

    def check_modelled(self) -> None:
        """There is no residual standard deviation."""
        raise ArgumentError(
            f"a fit of the family '{self.family.name}' has no model of a residual standard "
            "deviation; the family's parameters are in fit.family_params."
        )

    @property
    def predicted(self) -> tuple[str, ...]:  # type: ignore[override]
        """That of the family."""
        return self.family.predictions

    @property
    def argument(self) -> str:
        """The argument of ``glmer``."""
        return f"family='{self.family.name}'"

    @property
    def label(self) -> str:
        """After the formula."""
        return str(self.family)

    @property
    def approximation(self) -> str:
        """How the random effects are integrated out, in words."""
        if self.nagq == 0:
            return "Laplace, coefficients at the joint mode (nagq=0)"
        if self.nagq == 1:
            return "Laplace"
        return f"adaptive Gauss-Hermite quadrature, {self.nagq} nodes"

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Family and link, and how the random effects are integrated out."""
        family = ("Family", f"{self.family.name}, {self.family.link.name} link")
        return (family, ("Integral", self.approximation)) if mixed else (family,)

    @property
    def n_nodes(self) -> int:
        """Nodes of each integral, one of Laplace's approximation."""
        return max(self.nagq, 1)

    def method(self, *, mixed: bool, reml: bool) -> str:
        """Maximum likelihood, with its approximation."""
        if not mixed:
            return "ML"
        return "ML (Laplace)" if self.nagq <= 1 else f"ML ({self.nagq} nodes)"

    def criterion_text(self, deviance: float, *, reml: bool) -> str:
        """Log-likelihood, and twice its negative."""
        return f"log-likelihood {-0.5 * deviance:.4f}, deviance {deviance:.4f}"

    @property
    def sampling_refusal(self) -> str:
        """The sampler integrates normal responses."""
        return (
            "sample() draws from the posterior of models with normal residuals, and this fit has "
            f"{self.argument}: without priors=, fit.bootstrap() gives the distribution of the "
            "estimates and fit.conf_int(method='profile') likelihood intervals."
        )

    @property
    def n_params(self) -> int:
        """Number of the family's parameters."""
        return len(self.family.param_names)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of the family's parameters."""
        return self.family.param_names

    def full_name(self, name: str) -> str:
        """The name itself."""
        return name
