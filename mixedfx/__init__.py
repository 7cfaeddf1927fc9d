"""Mixed-effects regression for Python, with lme4's formulas and pandas' tables."""

from mixedfx import covariance, datasets, errors, families, priors, residuals
from mixedfx._deprecation import warn_renamed as _warn_renamed
from mixedfx._other_programs import missing_function as _missing_function
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

__version__ = "0.1.0"


def __dir__() -> list[str]:
    """List the public names."""
    return __all__


def __getattr__(name: str) -> object:
    """Serve the former names of public objects, with a warning."""
    if name == "Certificate":
        _warn_renamed("mixedfx.Certificate", "mixedfx.ConvergenceDiagnostics")
        return ConvergenceDiagnostics
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
