"""The command line: ``mixedfx fit FORMULA FILE`` and ``mixedfx demo``.

Errors, of the output as of the input, are one line on stderr, with exit status 2; an interrupt has
status 130. Without a command the help is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mixedfx import __version__
from mixedfx.errors import FormulaError, MixedfxError
from mixedfx.estimation.engines import ENGINES

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


# Help and errors of the arguments come without what a fit imports.


def _fit(options: argparse.Namespace) -> int:
    from mixedfx._commands import fit_file

    return fit_file(options)


def _demo(options: argparse.Namespace) -> int:
    from mixedfx._commands import demo

    return demo(options)
