"""A search's end to a fit: what theta implies, and the proof that it is the optimum.

An engine finds theta and claims a log-likelihood. Here the claim is computed again by the
one criterion, whatever the engine, and a disagreement beyond rounding is an error.

Nothing here knows how theta was found, or what the results will be called.
"""

from mixedfx.fit.certificate import Certificate, certify
from mixedfx.fit.fitted import Fit, assemble, expect_no_priors, expect_one_variance
from mixedfx.fit.search import Control, Note, Search
from mixedfx.fit.surface import Curvature, boundary, coordinates, curvature, framed_gradient

__all__ = [
    "Certificate",
    "Control",
    "Curvature",
    "Fit",
    "Note",
    "Search",
    "assemble",
    "boundary",
    "certify",
    "coordinates",
    "curvature",
    "expect_no_priors",
    "expect_one_variance",
    "framed_gradient",
]
