"""Parameters of a fit by name, on the scale that is reported.

They are the standard deviations and correlations of the random effects, the residual standard
deviation, the parameters of the residual model, and the fixed effects: what can be profiled,
bootstrapped or given an interval. Each name is unique in its fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mixedfx.covariance.components import ComponentKind
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel

Kind = ComponentKind | Literal["sigma", "dispersion", "fixed"]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a fit.

    Its name is ``sd(Days | Subject)``, ``corr(Intercept, Days | Subject)``, ``sigma``,
    ``dispersion(kind[T.usual])``, that of a family's parameter such as ``alpha``, or that of a
    column of ``X``.
    """

    name: str  # unique in its fit
    kind: Kind  # "dispersion": a parameter of the residual model or of the family
    term: int | None  # random term, from 0 in formula order
    first: int | None  # effect within the term; column of a fixed or dispersion parameter
    second: int | None  # the other effect of a correlation
    value: float  # estimate; NaN for a dropped column, and where an effect's variance is zero
    # index among its term's structure's parameters, if it is one of them alone
    structure_param: int | None = None


def parameters(fit: FittedModel) -> tuple[Parameter, ...]:
    """All parameters: of each random term, sigma, of the residual model, fixed effects."""
    random: list[Parameter] = []
    sigma = fit.solution.sigma
    structures = fit.crossprod.parametrization.terms
    terms = zip(fit.spec.random_terms, structures, fit.solution.lambdas, strict=True)
    for t, (random_term, (structure, at), lam) in enumerate(terms):
        random += [
            Parameter(
                random_term.component_name(c.kind, c.effects, c.label),
                c.kind,
                t,
                first=c.effects[0] if c.effects else None,
                second=c.effects[1] if len(c.effects) > 1 else None,
                value=c.value * sigma if c.kind == "sd" else c.value,
                structure_param=c.parameter,
            )
            for c in structure.components(lam, at)
        ]
    columns = fit.spec.column_names
    estimates = np.full(len(columns), np.nan)
    estimates[fit.spec.kept_columns] = fit.solution.beta
    # A fixed effect always has the name of its column.
    own_sigma = [Parameter(_unlike("sigma", columns), "sigma", None, None, None, sigma)]
    return (
        *_add_terms_to_equal_names(random, fit.spec.random_terms),
        *(own_sigma if fit.spec.residual.reports_sigma else []),
        *(
            Parameter(_unlike(c.full_name, columns), "dispersion", None, i, None, c.value)
            for i, c in enumerate(fit.residual.components)
        ),
        *(
            Parameter(name, "fixed", None, i, None, float(estimates[i]))
            for i, name in enumerate(columns)
        ),
    )


def _unlike(name: str, columns: Sequence[str]) -> str:
    """Name of a parameter of the residual model or family that no column of X has."""
    return name if name not in columns else f"{name}(Residual)"


def select_parameters(fit: FittedModel, parm: Sequence[str] | str | None) -> tuple[Parameter, ...]:
    """Select parameters by name, in the order of the names; all of them for None."""
    by_name = {parameter.name: parameter for parameter in parameters(fit)}
    if parm is None:
        return tuple(by_name.values())
    is_list = isinstance(parm, Iterable) and not isinstance(parm, str)
    names: list[object] = list(parm) if is_list else [parm]
    for name in names:
        check_choice("parm", name, by_name)
    return tuple(by_name[str(name)] for name in dict.fromkeys(names))


def _add_terms_to_equal_names(
    random: list[Parameter], random_terms: Sequence[RandomTermSpec]
) -> list[Parameter]:
    """Append the term where two terms of one group have an effect of the same name."""
    counts = Counter(parameter.name for parameter in random)
    return [
        parameter
        if counts[parameter.name] == 1 or parameter.term is None
        else replace(
            parameter, name=f"{parameter.name} in {random_terms[parameter.term].formula_term}"
        )
        for parameter in random
    ]
