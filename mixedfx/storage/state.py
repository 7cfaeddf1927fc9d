"""A fitted model as a tree of plain values, and the model made from the tree.

A node is a value itself (None, a number, text, an array, a pandas object), or a tuple whose first
entry says what it is: ``("tuple", nodes)``, ``("object", class, fields)``, ... Objects that occur
twice are ``("same", number)`` the second time. What follows from the rest is left out: patsy's
objects, caches, and the Cholesky factor at the optimum.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx import errors
from mixedfx.design.serialization import (
    design_info,
    design_state,
    environment_of,
    environment_values,
    foreign_transforms,
    formula_function,
    formula_function_name,
)
from mixedfx.errors import StorageError
from mixedfx.estimation.fitted_model import FittedModel, solution_at_optimum
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.storage.checks import check_crossproducts
from mixedfx.storage.classes import CLASSES, NAMES

Node = Any

# Numbers of a solution that are kept; its factors are computed again from theta.
_SOLUTION = (
    *("factors", "deviance", "beta", "sigma", "vcov_unscaled", "pwrss", "coef_vector"),
    "vcov_in_basis",
)
_FEW = 64  # integers that are not worth a change of type
# Largest difference of a deviance computed again, relative to n + |deviance|.
_ROUNDING = 1e-6
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_LEAVES = (
    *(np.ndarray, np.generic, pd.Series, pd.DataFrame, pd.Index, pd.Interval, pd.Period),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal),
    *(type(pd.NaT), type(pd.NA)),
)


class StateWriter:
    """Tree of one object."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self.functions: dict[str, Any] = {}  # values that are neither plain nor every formula's

    def node(self, value: Any) -> Node:
        """Tree of a value."""
        if type(value) in _SCALARS:
            return value
        if isinstance(value, np.ndarray) and value.size > 1 and not any(value.strides):
            return ("broadcast", list(value.shape), value.ravel()[:1].copy())
        if isinstance(value, np.ndarray) and not (
            value.flags.c_contiguous or value.flags.f_contiguous
        ):
            value = np.ascontiguousarray(value)  # as it is after a pickle: equal fits, equal trees
        if isinstance(value, np.ndarray) and value.dtype == np.int64 and value.size > _FEW:
            return _narrow(value)
        if isinstance(value, _LEAVES):
            return value
        kind = _CONTAINERS.get(type(value))
        if kind is not None:
            return (kind, [self.node(v) for v in value])
        if isinstance(value, Mapping):
            kind = "mapping" if isinstance(value, MappingProxyType) else "dict"
            return (kind, [[self.node(k), self.node(v)] for k, v in value.items()])
        if isinstance(value, type) and issubclass(value, errors.MixedfxWarning):
            return ("warning", value.__name__)
        return self._object(value)

    def _object(self, value: Any) -> Node:
        if id(value) in self._seen:
            return ("same", self._seen[id(value)])
        if isinstance(value, DesignInfo):
            node = self._design(value)
        elif isinstance(value, EvalEnvironment):
            node = ("environment", self._values(environment_values(value)), int(value.flags))
        elif type(value) in NAMES or is_dataclass(value):
            node = self._dataclass(value)
        else:
            return ("other", value)
        if node[0] != "other":  # which the reader does not count
            self._seen[id(value)] = len(self._seen)
        return node

    def _dataclass(self, value: Any) -> Node:
        name = NAMES.get(type(value))
        if name is None:  # a residual model of the user's, say: pickled as it is
            return ("other", value)
        if not is_dataclass(value):
            return ("object", name, {})
        kept = {
            f.name: getattr(value, f.name) if f.metadata.get("kept", True) else None
            for f in fields(value)
            if f.init
        }
        if isinstance(value, FittedModel):
            solution = kept.pop("solution")
            kept["solution"] = {part: getattr(solution, part) for part in _SOLUTION}
        if isinstance(value, OptimizerResult) and type(value.raw) not in NAMES:
            kept["raw"] = None  # statsmodels' result, which is fitted again when it is read
        return ("object", name, {n: self.node(v) for n, v in kept.items()})

    def _design(self, info: DesignInfo) -> Node:
        if foreign := foreign_transforms(info):
            raise StorageError(
                f"the formula's stateful transform {foreign[0]} is neither patsy's nor mixedfx's: "
                "its state cannot be kept. Compute its column before the fit."
            )
        state = design_state(info)
        values = [self._values(factor.pop("values")) for factor in state["factors"]]
        return ("design", self.node(state), values)

    def _values(self, values: Mapping[str, Any]) -> Node:
        return {name: self._named(name, value) for name, value in values.items()}

    def _named(self, name: str, value: Any) -> Node:
        """Value that a formula reads beside the data's columns."""
        known = formula_function_name(name, value)
        if known is not None:
            return ("formula function", known)
        if isinstance(value, ModuleType):
            return ("module", value.__name__)
        node = self.node(value)
        if isinstance(node, tuple) and node[0] == "other":
            self.functions[name] = value
            return ("function", name, value)
        return node


def _narrow(value: np.ndarray[Any, Any]) -> Node:
    """Integers in as few bytes as they need: levels of rows and of pairs."""
    low, high = int(value.min()), int(value.max())
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return ("narrow", value.astype(dtype))
    return value


_CONTAINERS: dict[type, str] = {tuple: "tuple", list: "list", set: "set", frozenset: "frozenset"}
_MAKERS: dict[str, Callable[[Any], Any]] = {
    **{kind: maker for maker, kind in _CONTAINERS.items()},
    "dict": dict,
    "mapping": lambda pairs: MappingProxyType(dict(pairs)),
}


class StateReader:
    """Object of a tree; ``module`` and ``function`` look up what a formula names."""

    def __init__(self, module: Callable[[str], Any], function: Callable[[str, Any], Any]) -> None:
        self._made: list[Any] = []
        self._module, self._function = module, function

    def value(self, node: Node) -> Any:
        """Value of a tree."""
        if not isinstance(node, tuple):
            return node
        kind = node[0]
        if kind in _CONTAINERS.values():
            return _MAKERS[kind]([self.value(v) for v in node[1]])
        if kind in _MAKERS:
            return _MAKERS[kind]([(self.value(k), self.value(v)) for k, v in node[1]])
        if kind == "broadcast":
            return np.broadcast_to(node[2][0], node[1]).view()
        if kind == "narrow":
            return node[1].astype(np.int64)
        if kind == "warning":
            return _warning(node[1])
        if kind == "same":
            return self._made[node[1]]
        if kind == "other":
            return node[1]
        value = self._object(node)
        self._made.append(value)
        return value

    def _object(self, node: Node) -> Any:
        kind = node[0]
        if kind == "design":
            state = self.value(node[1])
            for factor, values in zip(state["factors"], node[2], strict=True):
                factor["values"] = self._values(values)
            return design_info(state)
        if kind == "environment":
            return environment_of(self._values(node[1]), node[2])
        if kind != "object":
            raise ValueError(f"unknown kind of value {kind!r}")
        cls = CLASSES[node[1]]
        given = {name: self.value(v) for name, v in node[2].items()}
        return _fitted_model(given) if cls is FittedModel else cls(**given)

    def _values(self, values: Mapping[str, Node]) -> dict[str, Any]:
        return {name: self._named(node) for name, node in values.items()}

    def _named(self, node: Node) -> Any:
        if isinstance(node, tuple) and node[0] == "formula function":
            return formula_function(node[1])
        if isinstance(node, tuple) and node[0] == "module":
            return self._module(node[1])
        if isinstance(node, tuple) and node[0] == "function":
            return self._function(node[1], node[2])
        return self.value(node)


def _warning(name: str) -> type[errors.MixedfxWarning]:
    warning = getattr(errors, name, None)
    if not (isinstance(warning, type) and issubclass(warning, errors.MixedfxWarning)):
        raise ValueError(f"{name!r} is no warning")
    return warning


def _fitted_model(given: dict[str, Any]) -> FittedModel:
    """Fitted model with the numbers kept, and the factors at the optimum computed again."""
    kept = given.pop("solution")
    crossprod = given["likelihood"].crossprod
    check_crossproducts(crossprod)
    with single_threaded_blas(crossprod.symbolic.dense_size):
        solution = solution_at_optimum(
            given["design"].spec,
            given["likelihood"],
            given["optimizer_result"],
            given["residual"],
            given["priors"],
        )
    rounding = _ROUNDING * (crossprod.n + abs(kept["deviance"]))
    # Negated, so that NaN is a disagreement.
    if not abs(solution.deviance - kept["deviance"]) <= rounding:
        raise StorageError("its estimates are not those of its cross-products")
    return FittedModel(solution=replace(solution, **kept), **given)
