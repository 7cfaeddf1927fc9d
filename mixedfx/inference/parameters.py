"""A fit to its parameters by name: what can be profiled, drawn, or given an interval.

The scale is the one that people read: standard deviations and correlations of the random
effects, the residual standard deviation, and the fixed effects, each with one name that is
unique in its fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mixedfx.design.random import Block
from mixedfx.errors import expect_choice
from mixedfx.estimation.fitted_model import FittedModel

Matrix = npt.NDArray[np.float64]

Kind = Literal["sd", "corr", "sigma", "scale", "fixed"]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a fit.

    Parameters
    ----------
    name : str
        ``sd(Days | Subject)``, ``corr(Intercept, Days | Subject)``, ``sigma``,
        ``dispersion(kind[T.usual])``, or the name of a fixed column. Unique in its fit.
    kind : {"sd", "corr", "sigma", "scale", "fixed"}
        What it is; ``scale`` for a parameter of the log residual standard deviation.
    term : int or None
        The random term, counted from 0 in formula order.
    first : int or None
        The effect within the term; of a fixed effect, its place among the design's columns.
    second : int or None
        The other effect of a correlation.
    value : float
        The fit's estimate, in natural units; NaN for a fixed column that was left out, and for
        a correlation with an effect that does not vary.
    """

    name: str
    kind: Kind
    term: int | None
    first: int | None
    second: int | None
    value: float


def parameters(fit: FittedModel) -> tuple[Parameter, ...]:
    """List the parameters of a fit."""
    random: list[Parameter] = []
    sigma = fit.solution.sigma
    for t, (block, lam) in enumerate(zip(fit.design.blocks, fit.solution.lambdas, strict=True)):
        random += _of_term(t, block, sigma * lam)
    columns = fit.design.columns
    estimates = np.full(len(columns), np.nan)
    estimates[fit.design.kept] = fit.solution.beta
    # A fixed effect is called what its column is called, whatever else is called so.
    residual = "sigma" if "sigma" not in columns else "sigma(Residual)"
    known = fit.known_sds
    return (
        *_distinct(random, fit.design.blocks),
        *(() if known else (Parameter(residual, "sigma", None, None, None, sigma),)),
        *_of_scale(fit),
        *(
            Parameter(name, "fixed", None, i, None, float(estimates[i]))
            for i, name in enumerate(columns)
        ),
    )


def choose(fit: FittedModel, names: Sequence[str] | str | None) -> tuple[Parameter, ...]:
    """Find parameters by their names."""
    known = {parameter.name: parameter for parameter in parameters(fit)}
    if names is None:
        return tuple(known.values())
    several = isinstance(names, Iterable) and not isinstance(names, str)
    wanted: list[object] = list(names) if several else [names]
    for name in wanted:
        expect_choice("parm", name, known)
    return tuple(known[str(name)] for name in dict.fromkeys(wanted))


def _of_term(term: int, block: Block, root: Matrix) -> list[Parameter]:
    """Standard deviations and correlations of one term, from a root of its covariance."""
    names, group = block.effects, block.group
    sds = np.linalg.norm(root, axis=1)
    found = [
        Parameter(f"sd({name} | {group})", "sd", term, i, None, float(sds[i]))
        for i, name in enumerate(names)
    ]
    if block.term.structure == "diag":
        return found
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            product = sds[i] * sds[j]
            value = np.clip(root[i] @ root[j] / product, -1.0, 1.0) if product > 0.0 else np.nan
            name = f"corr({names[i]}, {names[j]} | {group})"
            found.append(Parameter(name, "corr", term, i, j, float(value)))
    return found


def _of_scale(fit: FittedModel) -> list[Parameter]:
    """Coefficients of a dispersion formula, and the standard deviation of its random term."""
    if fit.dispersion is None:
        return []
    scale, spread = fit.dispersion.design, fit.dispersion.random
    found = [
        Parameter(f"dispersion({name})", "scale", None, i, None, float(value))
        for i, (name, value) in enumerate(zip(scale.names, fit.dispersion.gamma, strict=True))
    ]
    if spread is not None and scale.block is not None:
        name = f"sd(dispersion | {scale.block.group})"
        found.append(Parameter(name, "scale", None, len(found), None, spread.sd))
    return found


def _distinct(random: list[Parameter], blocks: Sequence[Block]) -> list[Parameter]:
    """Add the term where two terms of one group have an effect of the same name."""
    counts = Counter(parameter.name for parameter in random)
    return [
        parameter
        if counts[parameter.name] == 1 or parameter.term is None
        else replace(parameter, name=f"{parameter.name} in {blocks[parameter.term].term}")
        for parameter in random
    ]
