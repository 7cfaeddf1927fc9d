"""Left sides of random terms whose effects have positions: ``ar1(visit | g)``, ``exp(x + y | g)``.

A structure of levels has one variable, each level of which is an effect; one of coordinates has
numbers. The intercept that patsy implies is left out: ``ar1(visit | g)`` is
``ar1(0 + visit | g)``.
"""

from __future__ import annotations

from typing import Any

from patsy import Term

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.trees import fail, find_node

# The group of a single level of all rows, of which coordinates alone have many effects.
ALL_ROWS = "1"


def has_positions(structure: str | None) -> bool:
    """Whether effects are levels or points, and not patsy's columns."""
    return structure is not None and STRUCTURES[structure].design != "effects"


def position_codes(effects: str) -> tuple[str, ...]:
    """Python code of each variable of a left side."""
    return tuple(term.name() for term in terms_of(effects) if term.factors)


def position_terms(columns: list[Term], structure: str, node: Any, text: str) -> list[Term]:
    """The variables of a left side, without an intercept; refuses other ones."""
    family = STRUCTURES[structure]
    variables = [term for term in columns if term.factors]
    example = _example(structure)
    one = find_node(node, lambda n: n.type == "ONE")
    if one is not None or not variables:
        problem = f"{structure}() has an effect at each {_position(structure)}, and no intercept."
        fail(problem, text, one or node, f"Write '{example}'.")
    if any(len(term.factors) > 1 for term in variables):
        problem = f"{structure}() takes variables, not their interaction."
        advice = f"Write '{example}'; make one column of the combinations before the formula."
        fail(problem, text, node, advice)
    largest = 1 if family.design == "levels" else family.max_coordinates
    if len(variables) > largest:
        count = "one variable" if largest == 1 else f"at most {largest} coordinates"
        fail(f"{structure}() takes {count}.", text, node, f"Write '{example}'.")
    return variables


def is_all_rows(group: Any, structure: str | None) -> bool:
    """Whether a right side is ``1``: one field for all rows."""
    return (
        bool(group.type == "ONE")
        and structure is not None
        and STRUCTURES[structure].design == "coordinates"
    )


def _position(structure: str) -> str:
    return "level of its variable" if STRUCTURES[structure].design == "levels" else "point"


def _example(structure: str) -> str:
    family = STRUCTURES[structure]
    if family.design == "levels":
        return f"{structure}(visit | g)"
    return f"{structure}({'time' if family.max_coordinates == 1 else 'lon + lat'} | g)"
