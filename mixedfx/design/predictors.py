"""Designs of the further linear predictors of a generalised model, on the rows of the first.

``zero_inflation="~ x + (1 | g)"`` is the formula of the logit of the probability of a zero, and
``dispersion="~ x"`` that of the logarithm of a parameter of the family. Each has a design of its
own, with the complete rows of all formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mixedfx._names import decode
from mixedfx.design.build import Design, build, build_several, subset_rows
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.residual import ResidualRows
from mixedfx.errors import ArgumentError, ResponseError
from mixedfx.families import binomial, gamma, registry, several_predictors
from mixedfx.families.family import Family
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

if TYPE_CHECKING:
    from mixedfx.families.several_predictors import SeveralPredictors


Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]


def _family_of(predictor: str) -> Family:
    """The family whose mean is what a predictor is the predictor of."""
    if predictor == "zero_inflation":
        return binomial.Binomial.with_link("logit")
    return gamma.Gamma.with_link("log")


@dataclass(frozen=True)
class SeveralFormulas(FamilyResidual):
    """A family whose zeros, or whose dispersion, have a formula."""

    formulas: Mapping[str, Formula] = field(default_factory=dict)  # by argument

    @property
    def density(self) -> SeveralPredictors:
        """Log density by all predictors."""
        return several_predictors.SeveralPredictors(
            self.family, "zero_inflation" in self.formulas, "dispersion" in self.formulas
        )

    @property
    def further_arguments(self) -> dict[str, str]:
        """The formulas as they are written."""
        return {name: str(formula) for name, formula in self.formulas.items()}

    @property
    def named_arguments(self) -> str:
        """The arguments of the formulas in a message."""
        return " and ".join(f"{name}=" for name in self.formulas)

    @property
    def label(self) -> str:
        """After the formula."""
        parts = (f"{name.replace('_', ' ')} {f}" for name, f in self.formulas.items())
        return "; ".join([str(self.family), *parts])

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Family, the other formulas, and how the random effects are integrated out."""
        mixed = mixed or any(formula.random for formula in self.formulas.values())
        family, *integral = super().header(mixed=mixed)
        titles = {"zero_inflation": "Zero part", "dispersion": "Dispersion"}
        return (family, *((titles[n], str(f)) for n, f in self.formulas.items()), *integral)

    @property
    def n_params(self) -> int:
        """Number of the family's parameters that are one number."""
        return len(self.density.param_names)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of these."""
        return self.density.param_names

    def is_log_sd(self, full_name: str) -> bool:
        """Coefficients of the dispersion formula."""
        return full_name.startswith("dispersion(")

    def is_own(self, full_name: str) -> bool:
        """Parameters of the family."""
        return full_name in self.coefficient_names

    def check_modelled(self) -> None:
        """Raise where no parameter of the family has a formula."""
        if "dispersion" not in self.formulas:
            raise ArgumentError(
                "this fit has no dispersion formula: fit.family_params has the family's "
                "parameters, and fit.zero_inflation the zero part."
            )

    @property
    def predicted(self) -> tuple[str, ...]:  # type: ignore[override]
        """The mean, its linear predictor, and what the others are of."""
        zero = ("conditional", "zero") if "zero_inflation" in self.formulas else ()
        dispersion = ("dispersion",) if "dispersion" in self.formulas else ()
        return ("mean", "linear", *zero, *dispersion)

    def check_priors(self) -> None:
        """Refuse priors."""
        self.check_one_predictor("priors=", "leave one of the two out")

    @property
    def has_several_means(self) -> bool:
        """With a zero part, or where the mean of truncated counts depends on the dispersion."""
        return "zero_inflation" in self.formulas or self.family.truncated

    def check_one_mean(self) -> None:
        """Refuse means of a response with a zero part."""
        if self.has_several_means:
            raise ArgumentError(
                "which='mean' is of two linear predictors here, with zero_inflation=, and is "
                "computed for fit.emmeans(..., which='mean') without bias_adjust, and by "
                "fit.predict(grid, random='none', se=True): take which='linear', of the "
                "conditional part."
            )

    def check_working_model(self, what: str) -> None:
        """Raise where the mean is of several predictors; of the dispersion the mean is free."""
        if self.has_several_means:
            raise ArgumentError(
                f"{what} is of models whose mean has one linear predictor, and this fit has "
                f"{self.named_arguments}: a leverage is the derivative of a fitted value by its "
                "response, in which a density with a zero part is not continuous. "
                "fit.influence(group) has the influence of each level, fit.check() outliers."
            )

    def check_one_predictor(self, what: str, instead: str = "") -> None:
        """Raise."""
        instead = instead or "fit.bootstrap() gives the distribution of the estimates"
        raise ArgumentError(
            f"{what} is of models with one linear predictor, and this fit has "
            f"{self.named_arguments}: {instead}."
        )


@dataclass(frozen=True)
class PredictorRows(ResidualRows):
    """Designs of the further predictors, by argument, on the same rows."""

    parts: Mapping[str, Design] = field(repr=False)

    @property
    def designs(self) -> Mapping[str, Design]:
        """Design of each."""
        return self.parts

    def subset(self, spec: Any, keep: Mask | Codes) -> tuple[Any, PredictorRows]:
        """Select rows, and the levels that occur in them."""
        return spec, PredictorRows({n: subset_rows(d, keep) for n, d in self.designs.items()})

    def without_variables(self) -> PredictorRows:
        """Arrays alone."""
        return PredictorRows(
            {
                name: Design(design.spec.without_evaluation(), design.rows.without_variables())
                for name, design in self.designs.items()
            }
        )


def predictor_designs(design: Design) -> list[Design]:
    """Design of each predictor, that of the mean first."""
    return [design, *design.rows.residual.designs.values()]


def family_design(
    formula: Formula,
    data: Any,
    parts: Mapping[str, Formula],
    nagq: int,
    relmat: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> Design:
    """Design of a generalised model, with those of its further predictors if it has any."""
    if not parts:
        design = build(formula, data, relmat=relmat, **given)
        residual = FamilyResidual(design.spec.family, nagq)
        return replace(design, spec=replace(design.spec, residual=residual))
    if relmat is not None:
        raise ArgumentError(
            f"{' and '.join(f'{name}=' for name in parts)} with relmat= are not supported: leave "
            "one of the two out."
        )
    design, designs = build_several(formula, parts, data, **given)
    check_other_columns(design, designs)
    if "zero_inflation" in parts:
        check_zeros(design, parts["zero_inflation"])
    return with_predictors(design, designs, parts, nagq)


def with_predictors(
    design: Design, parts: Mapping[str, Design], formulas: Mapping[str, Formula], nagq: int
) -> Design:
    """Design of a model with further predictors."""
    family = design.spec.family
    own = {}
    for name, part in parts.items():
        kind = FamilyResidual(_family_of(name), nagq)
        spec = replace(part.spec, family=kind.family, residual=kind, offset_column=None)
        # Their rows have no response of their own: a zero or not, and a constant.
        y = (part.rows.y == 0.0).astype(float) if kind.family.takes_trials else None
        rows = part.rows.replaced(weights=None, y=np.ones(part.rows.n) if y is None else y)
        own[name] = Design(replace(spec, weights_column=None), rows)
    spec = replace(design.spec, residual=SeveralFormulas(family, nagq, formulas))
    return Design(spec, replace(design.rows, residual=PredictorRows(own)))


def family_with(family: Family, formulas: Mapping[str, Formula]) -> Family:
    """The family beside these formulas; refuses what it has not."""
    if "dispersion" in formulas and family.dispersion_param is None:
        has = (
            f"its parameters ({', '.join(family.param_names)}) are not modelled"
            if family.param_names
            else "it has no parameter beside its mean"
        )
        raise ArgumentError(
            f"dispersion='{formulas['dispersion']}': the family '{family.name}' has no dispersion "
            f"to model: {has}. Families with one: 'nbinom2', 'nbinom1', 'gamma', 'gaussian', "
            "'inverse_gaussian', 'beta', 'betabinomial', 'student', 'tweedie'."
        )
    if "zero_inflation" not in formulas:
        return family
    if not family.has_zeros:
        raise ArgumentError(
            f"zero_inflation='{formulas['zero_inflation']}': a response of the family "
            f"'{family.name}' is never exactly zero, so there is no zero to be inflated. Model "
            "whether it is zero by family='binomial', and the others by this family; counts with "
            "zeros are of 'poisson', 'nbinom2' or 'nbinom1'."
        )
    return family.beside_zeros()


def check_other_columns(design: Design, parts: Mapping[str, Design]) -> None:
    """Refuse the response among the columns of a further predictor."""
    own = response_code(design.spec.formula.response)
    names = {name for code in own.parts for name in names_in(code)}
    for argument, part in parts.items():
        texts = [part.spec.formula.fixed, *(term.effects for term in part.spec.formula.random)]
        factors = {f.name() for text in texts for term in terms_of(text) for f in term.factors}
        read = sorted(names & {name for code in factors for name in names_in(code)})
        if read:
            raise ArgumentError(
                f"{argument}='{replace(part.spec.formula, response='')}' reads the response "
                f"'{decode(read[0])}', which it is to explain: name other columns."
            )


def check_zeros(design: Design, formula: Formula) -> None:
    """Refuse a zero part of a response without zeros."""
    y, family = design.rows.y, design.spec.family
    if (y == 0.0).any():
        return
    truncated = f"truncated_{family.name}"
    known = truncated in registry.FAMILIES
    instead = f", or take family='{truncated}' if zeros cannot occur" if known else ""
    raise ResponseError(
        f"zero_inflation='{formula}', but the response '{design.spec.formula.response_name}' has "
        f"no zeros: the smallest of {len(y):,} is {y.min():g}, and the probability of a zero would "
        f"be estimated as 0. Leave zero_inflation= out{instead}."
    )
