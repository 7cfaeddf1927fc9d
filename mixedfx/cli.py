"""The command line: ``mixedfx fit FORMULA FILE`` and ``mixedfx demo``.

Errors, of the output as of the input, are one line on stderr, with exit status 2; an interrupt has
status 130. Without a command the help is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import pandas as pd
from patsy import EvalEnvironment

from mixedfx import __version__, datasets
from mixedfx.api import ModelOptions, fit_formula
from mixedfx.errors import ArgumentError, FormulaError, MixedfxError
from mixedfx.estimation.dispatch import ENGINES
from mixedfx.generalized import GeneralizedOptions, fit_generalized_formula
from mixedfx.results.results import Results

_PARQUET = (".parquet", ".pq")
# Separators that a file's name implies; any other file is read as CSV.
_SEPARATORS = {".tsv": "\t", ".tab": "\t"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
# What a shell makes hard to type.
_ESCAPES = {"\\t": "\t", "tab": "\t", "space": r"\s+"}
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if not hasattr(options, "run"):
        parser.print_help()
        return 0
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except MixedfxError as error:
        return _print_error(error)
    except BrokenPipeError:  # the reading end of a pipe, such as head, was closed
        _discard_output()
        return 0
    except (OSError, UnicodeEncodeError) as error:  # a full disk, a terminal without Greek letters
        _discard_output()
        return _print_error(OSError(f"cannot write the results: {error}"))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _discard_output() -> None:
    """Make the interpreter's own flush at exit, of what could not be written, succeed."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="mixedfx", description="Mixed-effects regression from the command line."
    )
    parser.add_argument("--version", action="version", version=f"mixedfx {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_OneLineParser)
    fit = commands.add_parser("fit", help="fit a formula to a file and print the summary")
    fit.add_argument("formula", help='lme4-style, e.g. "y ~ x + (x | group)"')
    fit.add_argument("file", help="CSV, TSV or Parquet file with a header; - reads standard input")
    fit.add_argument("--sep", help="separator of the columns, such as ';' or tab; default: ','")
    fit.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    fit.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto")
    fit.add_argument("--weights", metavar="COLUMN", help="prior weights, or trials of a proportion")
    fit.add_argument("--offset", metavar="COLUMN", help="known term of the linear predictor")
    fit.add_argument("--family", help="of a generalised model: binomial, poisson, nbinom2, ...")
    fit.add_argument("--link", help="link of the family's mean; default: the family's first")
    fit.add_argument("--nagq", type=int, help="nodes of quadrature; default: 1, Laplace")
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
    name = "standard input" if options.file == "-" else options.file
    try:
        data = _read(options.file, options.sep)
    except (OSError, ValueError, ImportError, pd.errors.ParserError) as error:
        return _print_error(OSError(f"cannot read {name}: {error}"))
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


def _demo(_: argparse.Namespace) -> int:
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
