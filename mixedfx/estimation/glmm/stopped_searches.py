"""Where a search is stopped, as the likelihood has no maximum: merging modes, ends of families.

Laplace's approximation divides by the curvature of the density of the random effects at its mode. A
density that is not log-concave, as with the link cauchit or of a normal response with a log link,
can lose that mode as the parameters move, where the curvature is zero and the approximation
infinite. And the density itself can rise without end as a parameter of the family goes to its end,
as Tweedie's of counts.
"""

from __future__ import annotations

from mixedfx.design.build import Design
from mixedfx.estimation.glmm.search import LEAST_CURVATURE
from mixedfx.likelihood.generalized.likelihood import MarginalEvaluation
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS

# How near to the limit of the curvature a search ends that was stopped by it.
_AT_LIMIT = 1.1
# The same of a family's coordinates, which are logarithms there.
_NEAR_END = 2.0
# Nodes at which an integral over merging modes is no longer of one of them alone, by the number of
# effects of a level, to whose power they go.
_ENOUGH_NODES = {1: 25, 2: 15, 3: 7}


def stopped_statements(design: Design, evaluation: MarginalEvaluation) -> tuple[str, ...]:
    """Why the likelihood has no maximum, where a search was stopped on its way."""
    family = evaluation.modes.model.family
    if family.distance_to_end(evaluation.point.family_coordinates) < _NEAR_END:
        return (family.rises_at_end,)
    if evaluation.modes.least_curvature > _AT_LIMIT * LEAST_CURVATURE:
        return ()
    family, terms = design.spec.family, design.spec.random_terms
    one_factor = len({term.group for term in terms}) == 1
    width = sum(len(term.effect_names) for term in terms)
    mend = "Another link or family, or a simpler model, may not have this"
    nodes = _ENOUGH_NODES.get(width, 0)
    if one_factor and width <= MAX_COLUMNS and evaluation.nagq < nodes:
        mend = f"Fit with nagq={nodes}, which depends on that curvature less"
    approximation = "Laplace's approximation" if evaluation.nagq <= 1 else "quadrature"
    return (
        f"by {approximation} it rises without end where modes of the random effects merge and the "
        f"curvature there goes to zero, as it can where a density is not log-concave: {family}. "
        f"{mend}",
    )
