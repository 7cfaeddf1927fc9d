"""Every public callable with junk in one argument at a time."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import mixedfx as mfx
from mixedfx.covariance.registry import register_structure
from mixedfx.residuals.registry import register_residual

JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "[]": list,
    "{}": dict,
    "set()": set,
    "object()": object,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "10**30": lambda: 10**30,
    "''": lambda: "",
    "'junk'": lambda: "junk",
    "'no'": lambda: "no",
    "b'x'": lambda: b"x",
    "array": lambda: np.arange(3.0),
    "matrix": lambda: np.ones((2, 2)),
    "DataFrame": lambda: pd.DataFrame({"a": [1, 2]}),
    "Series": lambda: pd.Series([1.0, 2.0]),
    "lambda": lambda: lambda: None,
    "class": lambda: dict,
    "True": lambda: True,
    "['junk']": lambda: ["junk"],
    "[None]": lambda: [None],
    "[[]]": lambda: [[]],
    "{'junk': 1}": lambda: {"junk": 1},
    "{1: None}": lambda: {1: None},
    "NA": lambda: pd.NA,
    "1j": lambda: 1j,
}


@dataclass(frozen=True)
class Call:
    """A callable, and arguments that are good, those without defaults at least."""

    name: str
    function: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Those that junk can be put in."""
        signature = inspect.signature(self.function)
        return [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]

    def with_junk(self, parameter: inspect.Parameter, junk: Any) -> Any:
        """Call it."""
        args = {n: v for n, v in self.args.items() if n != parameter.name}
        positional = []
        for p in self.parameters:  # parameters that take no keyword
            if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL):
                value = junk if p.name == parameter.name else args.pop(p.name, p.default)
                if value is not p.empty:
                    positional.append(value)
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            args[parameter.name] = junk
        return self.function(*positional, **args)


def calls() -> list[Call]:
    """All public callables, on small fits."""
    data = mfx.datasets.load("sleepstudy")
    data["half"] = np.where(data["Days"] > 4, "late", "early")
    formula = "Reaction ~ Days + half + (1 | Subject)"
    fit = mfx.lmer(formula, data)
    small = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    boot = small.bootstrap(5, rng=1, progress=False)
    means = fit.emmeans("half")
    model = {"formula": formula, "data": data}
    table = mfx.table(fit)
    means_known = {"data": data, "response": "Reaction", "group": "Subject"}
    means_known |= {"mean": 300.0, "sd": 30.0, "residual_sd": 30.0}
    found = [
        Call("lmer", mfx.lmer, model),
        Call("pooling_fits", mfx.pooling_fits, model),
        Call("parse", mfx.parse, {"text": formula}),
        Call("graph", mfx.graph, {"formula": formula}),
        Call("equation", mfx.equation, {"formula": formula}),
        Call("draw", mfx.draw, {"model": formula}),
        Call("compare", mfx.compare, {"fits": [fit, fit]}),
        Call(
            "compare_structures",
            mfx.compare_structures,
            {"fit": _correlated(data), "structures": ["cs", "ar1"]},
        ),
        Call("table", mfx.table, {"fits": fit}),
        Call("read", mfx.read, {"path": "no such file"}),
        Call("Control", mfx.Control),
        Call("register_structure", register_structure),
        Call("register_residual", register_residual, {"name": "junk", "factory": len}),
        Call("datasets.load", mfx.datasets.load),
        Call("posterior_means", mfx.posterior_means, means_known),
    ]
    good = {"r_matrix": "Days = 1", "specs": "half", "y": fit.resid, "path": "/nowhere/fit.mfx"}
    good |= {"progress": False, "n": 2, "draws": 5}
    found += list(_methods("Results", fit, good))
    # Plots of the fixed part, which small has not.
    of_means = ("means", "interaction", "predictions", "slopes", "probabilities")
    drawn = _methods("plot", small.plot, {"bootstrap": boot})
    plots = [call for call in drawn if call.name[5:] not in of_means]
    named = {"x": "half", "by": None, "variable": "Days", "covariate": "half"}
    drawn = _methods("plot", fit.plot, named)
    plots += [call for call in drawn if call.name[5:] in of_means]
    found += plots
    found += [
        Call("bootstrap", small.bootstrap, {"n": 2, "progress": False}),
        Call("conf_int(bootstrap)", small.conf_int, {"method": "bootstrap", "n": 3}),
        Call("conf_int(profile)", small.conf_int, {"method": "profile"}),
    ]
    for owner, value in (
        ("EMMeans", means),
        ("Bootstrap", boot),
        ("Table", table),
        ("Summary", fit.summary()),
        ("Graph", fit.graph()),
        ("Equation", fit.equation()),
        ("Formula", fit.formula),
        ("certificate", fit.certificate),
    ):
        found += list(_methods(owner, value, {}))
    for name in mfx.priors.__all__:
        prior = getattr(mfx.priors, name)
        if isinstance(prior, type):
            args = dict.fromkeys(inspect.signature(prior).parameters, 1.0)
            found.append(Call(f"priors.{name}", prior, args))
    return found


def _correlated(data: pd.DataFrame) -> mfx.Results:
    """Fit with a structure of the residuals and a formula of their dispersion."""
    options = {"residual": "ar1(Days | Subject)", "dispersion": "~ half"}
    return mfx.lmer("Reaction ~ Days", data, **options)


def _methods(owner: str, value: Any, good: dict[str, Any]) -> Iterator[Call]:
    fields = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else ()
    for name in dir(type(value)):
        unbound = getattr(type(value), name)
        if name.startswith("_") or name in fields or isinstance(unbound, property):
            continue
        method = getattr(value, name, None)
        if callable(method) and not isinstance(method, type):
            known = inspect.signature(method).parameters
            args = _fitting(good, known)
            yield Call(f"{owner}.{name}", method, args)


def flags(call: Call) -> set[str]:
    """Parameters that are switches."""
    return {p.name for p in call.parameters if str(p.annotation).replace("'", "") == "bool"}


def outcome(call: Call, parameter: inspect.Parameter, junk: Any) -> BaseException | None:
    """What it raises, warnings aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call.with_junk(parameter, junk)
        except Exception as error:
            return error
    return None


def _fitting(good: dict[str, Any], parameters: Any) -> dict[str, Any]:
    """Those of the good arguments that a function has."""
    return {
        name: value
        for name, value in good.items()
        if name in parameters and parameters[name].kind != inspect.Parameter.VAR_KEYWORD
    }
