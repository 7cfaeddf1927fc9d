"""Mixed-effects regression for Python: lme4's formulas, pandas in and out."""

from mixedfx import datasets, errors, priors
from mixedfx.fit import Certificate, Control
from mixedfx.formula import Formula, RandomTerm, parse
from mixedfx.known import posterior_means
from mixedfx.model import lmer
from mixedfx.results import Results
from mixedfx.several import compare, pooling_fits, table
from mixedfx.shown import draw, equation, graph


def __dir__() -> list[str]:
    """Name what is public; the modules behind it are not."""
    return __all__


__all__ = [
    "Certificate",
    "Control",
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
