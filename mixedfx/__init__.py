"""Mixed-effects regression for Python: lme4's formulas, pandas in and out."""

import warnings
from typing import Any

from mixedfx import datasets, errors, priors
from mixedfx.api import lmer
from mixedfx.bayes.known_variances import posterior_means
from mixedfx.describe import draw, equation, graph
from mixedfx.estimation.convergence import ConvergenceDiagnostics
from mixedfx.estimation.optimizer_result import Control
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.results.comparison import compare, pooling_fits, table
from mixedfx.results.results import Results


def __dir__() -> list[str]:
    """Name what is public; the modules behind it are not."""
    return __all__


def __getattr__(name: str) -> Any:
    """Serve names of version 0.1 for one release more."""
    if name == "Certificate":
        warnings.warn(
            "mixedfx.Certificate is now mixedfx.ConvergenceDiagnostics.",
            FutureWarning,
            stacklevel=2,
        )
        return ConvergenceDiagnostics
    raise AttributeError(f"module 'mixedfx' has no attribute {name!r}")


__all__ = [
    "Control",
    "ConvergenceDiagnostics",
    "Formula",
    "RandomTerm",
    "Results",
    "compare",
    "datasets",
    "draw",
    "equation",
    "errors",
    "graph",
    "lmer",
    "parse",
    "pooling_fits",
    "posterior_means",
    "priors",
    "table",
]
