"""What patsy learned of a design, as plain values, and patsy's design information made from them.

patsy's objects refuse to be pickled: they hold the functions of a formula. Kept are the code of
each factor, the state of its stateful transforms, its levels, the contrast matrices, and the values
that the formula read beside the data's columns. Everything else follows from the code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from patsy import ContrastMatrix, DesignInfo, EvalEnvironment, Term
from patsy.design_info import FactorInfo, SubtermInfo
from patsy.origin import Origin

from mixedfx.design.functions import FORMULA_FUNCTIONS, PATSY_FUNCTIONS
from mixedfx.design.row_dependence import RowFactor

# Packages whose stateful transforms are known to hold plain values.
_TRANSFORM_PACKAGES = ("mixedfx", "patsy")


def formula_function_name(name: str, value: Any) -> str | None:
    """Name under which every formula knows a value; None if it is the caller's own."""
    for known in (FORMULA_FUNCTIONS, PATSY_FUNCTIONS):
        if known.get(name) is value:
            return name
    return None


def formula_function(name: str) -> Any:
    """Function that every formula knows by a name; a KeyError if there is none."""
    return FORMULA_FUNCTIONS[name] if name in FORMULA_FUNCTIONS else PATSY_FUNCTIONS[name]


def environment_values(env: EvalEnvironment) -> dict[str, Any]:
    """Values in an environment, by name; those in front hide those behind."""
    values: dict[str, Any] = {}
    for namespace in reversed(env._namespaces):
        values |= dict(namespace)
    return values


def environment_of(values: Mapping[str, Any], flags: int) -> EvalEnvironment:
    """Environment with some values; ``flags`` are those of the compiler."""
    return EvalEnvironment([dict(values)], flags)


def design_state(info: DesignInfo) -> dict[str, Any]:
    """Plain values from which :func:`design_info` makes the same columns."""
    factors = list(info.factor_infos)
    number = {factor: i for i, factor in enumerate(factors)}
    terms = []
    for term, subterms in info.term_codings.items():
        coded = [
            {
                "factors": [number[f] for f in subterm.factors],
                "contrasts": [
                    (number[f], np.asarray(c.matrix), list(c.column_suffixes))
                    for f, c in subterm.contrast_matrices.items()
                ],
                "num_columns": int(subterm.num_columns),
            }
            for subterm in subterms
        ]
        terms.append(([number[f] for f in term.factors], coded))
    return {
        "columns": list(info.column_names),
        "factors": [_factor_state(info.factor_infos[factor]) for factor in factors],
        "terms": terms,
    }


def _factor_state(info: Any) -> dict[str, Any]:
    env = info.state["eval_env"]
    transforms = [
        (name, f"{type(t).__module__}.{type(t).__qualname__}", dict(vars(t)))
        for name, t in info.state["transforms"].items()
    ]
    values = environment_values(env)
    return {
        "code": info.factor.code,
        "type": info.type,
        "num_columns": info.num_columns,
        "categories": info.categories,
        "transforms": transforms,
        "values": {n: v for n, v in values.items() if PATSY_FUNCTIONS.get(n) is not v},
        "flags": int(env.flags),
    }


def design_info(state: Mapping[str, Any]) -> DesignInfo:
    """Patsy's design information from :func:`design_state`; it checks that the parts match."""
    infos = [_factor_info(s) for s in state["factors"]]
    factors = [info.factor for info in infos]
    codings: OrderedDict[Term, list[Any]] = OrderedDict()
    for numbers, coded in state["terms"]:
        codings[Term([factors[i] for i in numbers])] = [
            SubtermInfo(
                [factors[i] for i in subterm["factors"]],
                {
                    factors[i]: ContrastMatrix(matrix, suffixes)
                    for i, matrix, suffixes in subterm["contrasts"]
                },
                subterm["num_columns"],
            )
            for subterm in coded
        ]
    return DesignInfo(list(state["columns"]), dict(zip(factors, infos, strict=True)), codings)


def _factor_info(state: Mapping[str, Any]) -> Any:
    code = state["code"]
    factor = RowFactor(code, Origin(code, 0, len(code)))
    learned: dict[str, Any] = {}
    factor.memorize_passes_needed(learned, environment_of(state["values"], state["flags"]))
    saved = {name: (kind, values) for name, kind, values in state["transforms"]}
    if saved.keys() != learned["transforms"].keys():
        raise ValueError(f"the transforms of '{code}' are not those that were kept")
    for name, transform in learned["transforms"].items():
        kind, values = saved[name]
        if kind != f"{type(transform).__module__}.{type(transform).__qualname__}":
            raise ValueError(f"'{code}' has a transform {type(transform).__name__}, not {kind}")
        vars(transform).clear()
        vars(transform).update(values)
    return FactorInfo(
        factor,
        state["type"],
        learned,
        num_columns=state["num_columns"],
        categories=state["categories"],
    )


def foreign_transforms(info: DesignInfo) -> list[str]:
    """Stateful transforms of a design that neither patsy nor this package defines."""
    return [
        type(transform).__name__
        for learned in info.factor_infos.values()
        for transform in learned.state["transforms"].values()
        if type(transform).__module__.split(".")[0] not in _TRANSFORM_PACKAGES
    ]
