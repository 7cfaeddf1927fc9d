"""Mixed-effects regression for Python, with lme4's formulas and pandas' tables.

What a public name stands for is imported when the name is first used.
"""

import typing as _typing
from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec

from mixedfx._deprecation import warn_renamed as _warn_renamed
from mixedfx._other_programs import missing_function as _missing_function

if _typing.TYPE_CHECKING:
    from mixedfx import covariance, datasets, errors, families, priors, residuals
    from mixedfx.api import lmer, pooling_fits
    from mixedfx.bayes.known_variances import posterior_means
    from mixedfx.covariance.relationship import Relationship
    from mixedfx.cross_validation import cross_validate
    from mixedfx.describe import draw, equation, graph
    from mixedfx.each import lmer_each
    from mixedfx.estimation.convergence import ConvergenceDiagnostics
    from mixedfx.estimation.optimizer_result import Control
    from mixedfx.formula.parser import parse
    from mixedfx.formula.terms import Formula, RandomTerm
    from mixedfx.generalized import glmer
    from mixedfx.meta_analysis import meta
    from mixedfx.mixedlm import from_statsmodels
    from mixedfx.power_analysis import power
    from mixedfx.results.comparison import compare, compare_structures, table
    from mixedfx.results.imputation import pool
    from mixedfx.results.model_average import model_avg
    from mixedfx.results.results import Results
    from mixedfx.results.storage import read
    from mixedfx.workflow.design_check import check_design
    from mixedfx.workflow.doctor import doctor

__version__ = "0.1.0"

# Libraries that insert filters of warnings when they are first imported: a fit inserts none.
for _library in ("scipy.sparse", "scipy.special"):
    _import_module(_library)

# Module of each public name that is not itself a module.
_MODULES = {
    "Control": "mixedfx.estimation.optimizer_result",
    "ConvergenceDiagnostics": "mixedfx.estimation.convergence",
    "Formula": "mixedfx.formula.terms",
    "RandomTerm": "mixedfx.formula.terms",
    "Relationship": "mixedfx.covariance.relationship",
    "Results": "mixedfx.results.results",
    "check_design": "mixedfx.workflow.design_check",
    "compare": "mixedfx.results.comparison",
    "compare_structures": "mixedfx.results.comparison",
    "cross_validate": "mixedfx.cross_validation",
    "doctor": "mixedfx.workflow.doctor",
    "draw": "mixedfx.describe",
    "equation": "mixedfx.describe",
    "from_statsmodels": "mixedfx.mixedlm",
    "glmer": "mixedfx.generalized",
    "graph": "mixedfx.describe",
    "lmer": "mixedfx.api",
    "lmer_each": "mixedfx.each",
    "meta": "mixedfx.meta_analysis",
    "model_avg": "mixedfx.results.model_average",
    "parse": "mixedfx.formula.parser",
    "pool": "mixedfx.results.imputation",
    "pooling_fits": "mixedfx.api",
    "posterior_means": "mixedfx.bayes.known_variances",
    "power": "mixedfx.power_analysis",
    "read": "mixedfx.results.storage",
    "table": "mixedfx.results.comparison",
}


def __dir__() -> list[str]:
    """List the public names."""
    return __all__


def __getattr__(name: str) -> object:
    """Import what a name stands for; serve the former names of public objects, with a warning."""
    if name in _MODULES:
        value: object = getattr(_import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
    if name == "Certificate":
        _warn_renamed("mixedfx.Certificate", "mixedfx.ConvergenceDiagnostics")
        return _import_module("mixedfx").ConvergenceDiagnostics
    if not name.startswith("_") and _find_spec(f"mixedfx.{name}") is not None:
        return _import_module(f"mixedfx.{name}")
    raise _missing_function(name)


__all__ = [
    "Control",
    "ConvergenceDiagnostics",
    "Formula",
    "RandomTerm",
    "Relationship",
    "Results",
    "check_design",
    "compare",
    "compare_structures",
    "covariance",
    "cross_validate",
    "datasets",
    "doctor",
    "draw",
    "equation",
    "errors",
    "families",
    "from_statsmodels",
    "glmer",
    "graph",
    "lmer",
    "lmer_each",
    "meta",
    "model_avg",
    "parse",
    "pool",
    "pooling_fits",
    "posterior_means",
    "power",
    "priors",
    "read",
    "residuals",
    "table",
]
