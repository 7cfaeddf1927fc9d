"""What random terms with a relationship matrix or multiple memberships can be, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._keys import positions_of_keys
from mixedfx.covariance import known_covariance
from mixedfx.covariance import relationship as relationships
from mixedfx.design.levels import Levels
from mixedfx.design.membership import encode_memberships
from mixedfx.errors import ArgumentError, SizeError, brief, check_choice
from mixedfx.formula.membership import is_membership
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.linalg.sparse_matrix import SparseMatrix

if TYPE_CHECKING:
    from mixedfx.covariance.relationship import Relationship
    from mixedfx.design.spec import ModelSpec, RandomTermSpec

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Levels with records up to which the dense eigen-decomposition is computed: 10 GB, minutes.
_MAX_LEVELS = 20_000


class KnownLevels(NamedTuple):
    """What is known of the levels of grouping factors beside the rows."""

    one_row_levels: bool = False  # whether levels may have a row each
    relmat: Mapping[str, Any] | None = None  # covariances of their effects, by factor


def check_known_levels(
    term: RandomTerm,
    n_levels: int,
    relationship: Relationship | None,
    memberships: bool,
) -> None:
    """Refuse more levels than can be decomposed."""
    if memberships:
        check_dense_levels(str(term), n_levels, "multiple memberships")
    elif relationship is not None and not isinstance(
        relationship.known, known_covariance.PedigreeCovariance
    ):
        # A pedigree's inverse is sparse: what is dense of it is known once it is ordered.
        check_dense_levels(str(term), n_levels, "a relationship matrix")


def check_dense_levels(what: str, n_levels: int, reason: str) -> None:
    """Refuse more levels than a dense matrix of them can be decomposed."""
    if n_levels > _MAX_LEVELS:
        size = 8e-9 * n_levels**2
        raise SizeError(
            f"{what} has {n_levels:,} levels with records; with {reason} they are decomposed as "
            f"one dense matrix of {size:.0f} GB, for at most {_MAX_LEVELS:,} levels. Levels "
            "without records do not count, and a pedigree's are taken by its sparse inverse where "
            "no other term or dispersion= needs them dense."
        )


def check_relmat(relmat: Any, formula: Formula) -> None:
    """Refuse what is no mapping from grouping factors of the formula."""
    if relmat is None:
        return
    if not isinstance(relmat, Mapping):
        raise ArgumentError(
            f"relmat={brief(relmat)} must be a mapping from grouping factor to matrix, such as "
            "{'animal': A}."
        )
    for factor in relmat:
        check_choice("relmat", factor, formula.groups)
        for term in formula.random:
            if term.group_name == factor and is_membership(term.group[0]):
                raise ArgumentError(
                    f"relmat has a matrix of '{factor}', and the levels of multiple memberships "
                    "are independent: leave it out."
                )


def check_plain_levels(spec: ModelSpec, what: str, instead: str = "") -> None:
    """Refuse a relationship matrix or multiple memberships where something has neither."""
    for term in spec.random_terms:
        if not term.is_plain:
            reason = "relationship matrix" if term.relationship is not None else "memberships"
            raise ArgumentError(f"{what} takes no {reason} of {term.formula_term}.{instead}")


@dataclass(frozen=True, eq=False)
class LevelCombinations:
    """What the effect in a row is, by the row's code: of levels of the fit, and beyond them."""

    weights: SparseMatrix  # (codes, levels) of the effects of the fit's levels
    unknown: Vector  # (codes,) relative variance of the rest, given the fit's levels
    prior: Vector  # (codes,) relative variance of the whole
    unseen: Mask  # (codes,) whether levels are part of it that the fit does not know

    @staticmethod
    def of_levels(weights: SparseMatrix) -> LevelCombinations:
        """Combinations of independent levels of the fit."""
        none = np.zeros(weights.n_rows)
        return LevelCombinations(weights, none, _squares(weights), none > 0.0)

    def of_rows(self, codes: Codes, effects: Matrix) -> Matrix:
        """Effects (k, n) in rows of these codes, of those of the levels (k, levels)."""
        return np.asarray((self.weights.csr @ effects.T).T)[:, codes]


def encode_known_levels(
    term: RandomTermSpec, values: Sequence[Any]
) -> tuple[Codes, LevelCombinations | None]:
    """Codes of new rows, and their effects; of others than plain terms codes are not levels."""
    if term.is_plain:
        return term.levels.encode(list(values)), None
    if term.relationship is not None:
        return _encode_related(term, values[0])
    found = encode_memberships(values[0], term.levels)
    prior = _squares(found.weights) + found.unseen
    return found.codes, LevelCombinations(found.weights, found.unseen, prior, found.unseen > 0.0)


def related_effects(relationship: Relationship, levels: Levels, wanted: Codes) -> LevelCombinations:
    """Effects of some rows of A given those of the levels of the fit."""
    at = relationships.positions_of_levels(relationship, levels.labels, "")
    prior = relationship.known.diagonal(wanted)
    place = np.full(len(relationship), -1)
    place[at] = np.arange(len(at))
    is_level = place[wanted] >= 0
    own, others = np.flatnonzero(is_level), np.flatnonzero(~is_level)
    shape = (len(wanted), len(at))
    weights = sparse.csr_array((np.ones(len(own)), (own, place[wanted[own]])), shape=shape)
    unknown = np.zeros(len(wanted))
    if len(others):
        found = relationships.regression_weights(relationship, at, wanted[others])
        regression, unknown[others] = found
        place_others = sparse.csr_array(
            (np.ones(len(others)), (others, np.arange(len(others)))),
            shape=(len(wanted), len(others)),
        )
        weights = weights + place_others @ regression
    none_unseen = np.zeros(len(wanted), dtype=bool)
    return LevelCombinations(SparseMatrix.of(weights), unknown, prior, none_unseen)


def _encode_related(term: RandomTermSpec, values: Any) -> tuple[Codes, LevelCombinations]:
    assert term.relationship is not None
    keys = pd.Index(np.asarray(values, dtype=object))
    at = positions_of_keys(keys, term.relationship.labels)
    wanted, codes = np.unique(at[at >= 0], return_inverse=True)
    result = np.full(len(at), -1)
    result[at >= 0] = codes.ravel()
    return result, related_effects(term.relationship, term.levels, wanted)


def _squares(weights: SparseMatrix) -> Vector:
    """Sums of squared weights, (codes,)."""
    return np.bincount(weights.rows, weights.values**2, weights.n_rows).astype(float)
