"""What the commands of the command line do: read a table, fit, print."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import IO, Any

import pandas as pd
from patsy import EvalEnvironment

from mixedfx import datasets
from mixedfx.api import ModelOptions, fit_formula
from mixedfx.errors import ArgumentError, DataError
from mixedfx.generalized import GeneralizedOptions, fit_generalized_formula
from mixedfx.results.results import Results

_PARQUET = (".parquet", ".pq")
# Separators that a file's name implies; any other file is read as CSV.
_SEPARATORS = {".tsv": "\t", ".tab": "\t"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
# What a shell makes hard to type.
_ESCAPES = {"\\t": "\t", "tab": "\t", "space": r"\s+"}


def fit_file(options: argparse.Namespace) -> int:
    """Fit a formula to a file, and print the summary or JSON."""
    name = "standard input" if options.file == "-" else options.file
    try:
        data = _read(options.file, options.sep)
    except (OSError, ValueError, ImportError, pd.errors.ParserError) as error:
        raise DataError(f"cannot read {name}: {error}") from None
    fit = _fit_quietly(options.formula, data, _model_options(options))
    if options.json:
        print(json.dumps(_as_json(fit), indent=2))
    else:
        print(fit.summary())
    return 0


def _model_options(options: argparse.Namespace) -> ModelOptions | GeneralizedOptions:
    """Arguments of ``lmer``, or of ``glmer`` where a family is given."""
    columns = {"weights": options.weights, "offset": options.offset}
    if options.family is None:
        for name in ("link", "nagq"):
            if getattr(options, name) is not None:
                raise ArgumentError(f"--{name} is of a generalised model; give its --family too.")
        return ModelOptions(reml=not options.ml, engine=options.engine, **columns)
    if options.engine != "auto":
        raise ArgumentError("--engine is of linear models; with --family there is one, of --nagq.")
    nagq = 1 if options.nagq is None else options.nagq
    return GeneralizedOptions(options.family, link=options.link, nagq=nagq, **columns)


def _fit_quietly(
    formula: str, data: pd.DataFrame, options: ModelOptions | GeneralizedOptions
) -> Results:
    """Fit without the warnings that ``lmer`` gives of its notes, which the summary prints."""
    env = EvalEnvironment([{}])
    if isinstance(options, GeneralizedOptions):
        return Results(fit_generalized_formula(env, formula, data, options))
    return Results(fit_formula(env, formula, data, options))


def _read(file: str, sep: str | None) -> pd.DataFrame:
    """Read a table from a file, or from standard input for ``-``."""
    suffixes = [s.lower() for s in Path(file).suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in _COMPRESSED), "")
    if suffix in _PARQUET:
        return pd.read_parquet(file)
    source: str | IO[str] = sys.stdin if file == "-" else file
    sep = _ESCAPES.get(sep, sep) if sep is not None else _SEPARATORS.get(suffix, ",")
    if not sep:
        raise ValueError("--sep is empty; give one character, such as ';', or tab.")
    data = pd.read_csv(source, sep=sep, engine="python" if len(sep) > 1 else "c")
    if len(data.columns) == 1 and (found := _other_separator(str(data.columns[0]))):
        raise ValueError(f"its header is one column; the separator seems to be {found}.")
    return data


def _other_separator(header: str) -> str | None:
    """Argument ``--sep`` that would divide a header which was read as one column."""
    candidates = {"\t": "--sep tab", ";": "--sep ';'", "|": "--sep '|'", ",": "--sep ,"}
    return next((option for sep, option in candidates.items() if sep in header), None)


def _as_json(fit: Results) -> dict[str, Any]:
    columns = ["term", "estimate", "std_error", "statistic", "df", "p_value"]
    linear = fit.model.spec.residual.linear
    fixed = fit.tidy()[columns].rename(columns={"statistic": "t" if linear else "z"})
    effects = fit.ranef()
    assert isinstance(effects, dict)
    result = {
        "formula": str(fit.formula),
        "method": "REML" if fit.reml else "ML",
        "engine": fit.engine,
        "converged": fit.converged,
        "singular": fit.is_singular,
        "nobs": fit.nobs,
        "ngroups": fit.ngroups,
        "deviance": fit.deviance,
        "llf": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "sigma": fit.sigma,
        "theta": fit.theta.tolist(),
        "fixed": fixed.to_dict("records"),
        "varcorr": fit.varcorr.to_dict("records"),
        "ranef": {
            group: {str(level): row for level, row in table.to_dict("index").items()}
            for group, table in effects.items()
        },
        "notes": list(fit.notes),
    }
    if not linear:
        result |= {
            "family": fit.family.name,
            "link": fit.family.link.name,
            "family_params": fit.family_params.to_dict(),
            "sigma": fit.glance()["sigma"].item(),
        }
    return {key: _jsonable(value) for key, value in result.items()}


def _jsonable(value: Any) -> Any:
    """Replace values that JSON cannot represent: NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def demo(_: argparse.Namespace) -> int:
    """Fit the sleepstudy data, and print the results."""
    sleep = datasets.load("sleepstudy")
    fit = _fit_quietly("Reaction ~ Days + (Days | Subject)", sleep, ModelOptions())
    print("Reaction times (ms) of 18 subjects over ten days of sleep deprivation\n")
    print(fit.summary())
    print("\nVariance components (fit.varcorr):")
    print(fit.varcorr.to_string(index=False, na_rep=""))
    print("\nFirst BLUPs, with their conditional standard deviations (fit.ranef):")
    effects = fit.ranef("Subject", cond_sd=True)
    assert isinstance(effects, pd.DataFrame)
    print(effects.head(6).round(3).to_string())
    print(f"\n{fit.convergence}")
    return 0
