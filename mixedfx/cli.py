"""The command line: ``mixedfx fit FORMULA FILE`` and ``mixedfx demo``.

Errors are one line on stderr, with exit status 2.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from mixedfx import datasets
from mixedfx.api import lmer
from mixedfx.errors import FormulaError, MixedfxError, MixedfxWarning
from mixedfx.estimation.dispatch import ENGINES
from mixedfx.results.results import Results

_PARQUET = (".parquet", ".pq")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    options = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # The summary prints them among its notes.
            warnings.simplefilter("ignore", MixedfxWarning)
            return int(options.run(options))
    except MixedfxError as error:
        return _print_error(error)
    except BrokenPipeError:  # the reading end of a pipe, such as head, was closed
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="mixedfx", description="Mixed-effects regression from the command line."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_OneLineParser)
    fit = commands.add_parser("fit", help="fit a formula to a file and print the summary")
    fit.add_argument("formula", help='lme4-style, e.g. "y ~ x + (x | group)"')
    fit.add_argument("file", type=Path, help="CSV or Parquet file with a header")
    fit.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    fit.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto")
    fit.add_argument("--json", action="store_true", help="print the results as JSON")
    fit.set_defaults(run=_fit)
    demo = commands.add_parser("demo", help="fit the sleepstudy data and print the results")
    demo.set_defaults(run=_demo)
    return parser


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _print_error(error: Exception) -> int:
    """Print an error in one line on stderr, and return the exit status."""
    if isinstance(error, FormulaError):
        at_fault = error.text[error.start : error.end]
        text = f"{error.problem} (at '{at_fault}', character {error.start + 1}) {error.advice}"
    else:
        text = str(error)
    print(f"mixedfx: {' '.join(text.split())}", file=sys.stderr)
    return 2


def _fit(options: argparse.Namespace) -> int:
    try:
        data = _read(options.file)
    except (OSError, ValueError, ImportError) as error:
        return _print_error(OSError(f"cannot read {options.file}: {error}"))
    fit = lmer(options.formula, data, reml=not options.ml, engine=options.engine)
    if options.json:
        print(json.dumps(_as_json(fit), indent=2))
    else:
        print(fit.summary())
    return 0


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in _PARQUET:
        return pd.read_parquet(path)
    return pd.read_csv(path)


def _as_json(fit: Results) -> dict[str, Any]:
    columns = ["term", "estimate", "std_error", "statistic", "df", "p_value"]
    fixed = fit.tidy()[columns].rename(columns={"statistic": "t"})
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


def _demo(_: argparse.Namespace) -> int:
    sleep = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
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
