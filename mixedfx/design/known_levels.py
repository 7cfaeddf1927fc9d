"""What random terms with a relationship matrix or multiple memberships can be, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mixedfx.covariance.relationship import Relationship
from mixedfx.errors import ArgumentError, GroupingError, SizeError, brief, check_choice
from mixedfx.formula.terms import Formula, RandomTerm

if TYPE_CHECKING:
    from mixedfx.design.spec import ModelSpec

# Levels with records up to which the dense eigen-decomposition is computed: 10 GB, minutes.
_MAX_LEVELS = 20_000


def check_known_levels(
    term: RandomTerm,
    effects: Sequence[str],
    n_levels: int,
    relationship: Relationship | None,
    memberships: bool,
) -> None:
    """Refuse several effects a level, and more levels than can be decomposed."""
    if relationship is None and not memberships:
        return
    what = "a relationship matrix" if relationship is not None else "multiple memberships"
    if len(effects) > 1:
        raise GroupingError(
            f"{term} has {len(effects)} effects of each level, and {what} go with one: write a "
            f"term for each, such as (1 | {term.group_name})."
        )
    if n_levels > _MAX_LEVELS:
        size = 8e-9 * n_levels**2
        raise SizeError(
            f"{term} has {n_levels:,} levels with records; with {what} they are decomposed as one "
            f"dense matrix of {size:.0f} GB, for at most {_MAX_LEVELS:,} levels. Levels without "
            "records do not count."
        )


def check_relmat(relmat: Any, formula: Formula) -> None:
    """Refuse what is no mapping from grouping factors of the formula."""
    if relmat is None:
        return
    if not hasattr(relmat, "keys"):
        raise ArgumentError(
            f"relmat={brief(relmat)} must be a mapping from grouping factor to matrix, such as "
            "{'animal': A}."
        )
    for factor in relmat:
        check_choice("relmat", factor, formula.groups)


def check_plain_levels(spec: ModelSpec, what: str, instead: str = "") -> None:
    """Refuse a relationship matrix or multiple memberships where something has neither."""
    for term in spec.random_terms:
        if not term.is_plain:
            reason = "relationship matrix" if term.relationship is not None else "memberships"
            raise ArgumentError(f"{what} takes no {reason} of {term.formula_term}.{instead}")
