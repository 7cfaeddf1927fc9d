"""Effects of all levels that are reported: those with records, and others of a relationship matrix.

Given the effects ``b_r`` of the levels with records, those of others have the mean
``A_or A_rr^-1 b_r`` and the covariance ``sigma_a**2 (A_oo - A_or A_rr^-1 A_ro)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.known_covariance import PedigreeCovariance
from mixedfx.covariance.relationship import other_rows, positions_of_levels, regressed_effects
from mixedfx.design.known_levels import LevelCombinations, related_effects
from mixedfx.design.spec import RandomTermSpec
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.precision import covariances_of_all
from mixedfx.linalg.precision import PrecisionBasis

Matrix = npt.NDArray[np.float64]

# Levels that are taken at once.
_BATCH = 2_000


def reported_labels(term: RandomTermSpec) -> pd.Index:
    """Labels of the levels: of the data, or of the relationship matrix."""
    return term.levels.labels if term.relationship is None else term.relationship.labels


def reported_modes(term: RandomTermSpec, modes: Matrix) -> Matrix:
    """Conditional modes (k, reported levels) from those of the levels with records."""
    if term.relationship is None:
        return modes
    at = positions_of_levels(term.relationship, term.levels.labels, term.group)
    reported = np.empty((len(modes), len(term.relationship)))
    reported[:, at] = modes
    others = other_rows(term.relationship, at)
    if len(others):
        reported[:, others] = regressed_effects(term.relationship, at, modes.T).T
    return reported


def reported_combinations(term: RandomTermSpec) -> LevelCombinations | None:
    """Effects of the reported levels as combinations of those with records; None: these."""
    if term.relationship is None:
        return None
    return related_effects(term.relationship, term.levels, np.arange(len(term.relationship)))


def reported_variances(fit: FittedModel, t: int) -> Matrix:
    """Conditional variances of the reported levels' effects, (k, reported levels)."""
    term, position = fit.spec.random_terms[t], fit.crossprod.term_positions[t]
    if term.relationship is None:
        return np.asarray(np.einsum("kkl->kl", fit.solution.conditional_covariances()[t]))
    is_pedigree = isinstance(term.relationship.known, PedigreeCovariance)
    if is_pedigree and isinstance(fit.crossprod.level_basis(position.group), PrecisionBasis):
        terms = [fit.spec.random_terms[fit.spec.terms_of(g)[0]] for g in fit.crossprod.groups]
        relationships = [own.relationship for own in terms]
        every = covariances_of_all(fit.solution, position.group, relationships)
        return np.asarray(np.einsum("kkl->kl", every[position.columns, position.columns]))
    effects = range(position.start, position.start + position.width)
    C = [fit.solution.covariance_between_levels(position.group, effect) for effect in effects]
    lam = fit.solution.lambdas[t]
    variance = fit.solution.sigma**2 * np.einsum("ab,ab->a", lam, lam)
    found = np.empty((len(effects), len(term.relationship)))
    for first in range(0, found.shape[1], _BATCH):
        part = np.arange(first, min(first + _BATCH, found.shape[1]))
        related = related_effects(term.relationship, term.levels, part)
        R = related.weights.csr
        for of_effect, C_a, v in zip(found, C, variance, strict=True):
            explained = np.asarray(R.multiply(R @ C_a).sum(axis=1)).ravel()
            of_effect[part] = explained + v * related.unknown
    return found
