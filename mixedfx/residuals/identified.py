"""Whether the rows identify the parameters of correlated residuals.

The parameters of ``V = sum_i psi_i D_i`` are identified if and only if the ``M D_i M`` are linearly
independent, M being the projector on the residuals of X under REML, the identity under ML
(Rothenberg 1971, theorem 1). A combination that is zero is zero times any vector; one that is not
is with probability one not zero times a random one: the columns ``M D_i M z`` for a few vectors z
tell, and cost what the rows do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Positions
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.design.build import Design
from mixedfx.design.rows import RandomTermRows
from mixedfx.errors import ArgumentError, GroupingError
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.likelihood.patterns import Patterns, PatternsOfSize
from mixedfx.residuals.blocks import CovarianceBlock, SubjectRows
from mixedfx.residuals.correlated_spec import CorrelatedSpec

Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PROBES = 3
_DEPENDENT = 1e-7  # of a singular value, to the largest of unit columns
_NEGLIGIBLE = 1e-4
# Numbers in the columns beyond which they are not made.
_LARGEST = 4e7


def check_identified_residuals(
    spec: CorrelatedSpec, patterns: Patterns, design: Design, *, reml: bool
) -> None:
    """Refuse rows that do not identify the parameters of correlated residuals."""
    sizes = patterns.sizes
    lengths = np.array([size.positions.shape[1] for size in sizes])
    subjects = np.array([len(size.rows) for size in sizes])
    structure, at = spec.covariance, spec.at
    check_enough_pairs(
        spec.argument,
        spec.n_strata * structure.size(at),
        _pairs_of_positions(sizes, at.k),
        int(subjects[lengths == 1].sum()),
        int(subjects.sum()),
    )
    if structure.linear and structure.correlated:
        _check_enough_subjects(spec, sizes)
    if structure.size(at) * at.k**2 > _LARGEST:
        return
    R = structure.covariance(structure.generic_params(at), at)
    blocks = [
        CovarianceBlock(structure, at, R, SubjectRows(patterns, s, at.k, design.rows.weights))
        for s in range(spec.n_strata)
    ]
    names = [f"{name}{of}" for of in _strata(spec) for name in _names(spec, structure, at)]
    check_identified(design, blocks, names, reml=reml)


def _check_enough_subjects(spec: CorrelatedSpec, sizes: Sequence[PatternsOfSize]) -> None:
    """
    Refuse free covariances of more rows of a subject than there are subjects.

    With E the subjects' residuals, missing ones zero, ``E E' + eps I`` has a likelihood that grows
    without bound as eps goes to zero where a subject has more rows than E has columns.
    """
    for s, of in enumerate(_strata(spec)):
        in_stratum = [(size, size.strata == s) for size in sizes]
        subjects = int(sum(size.counts[own].sum() for size, own in in_stratum))
        rows = max(size.positions.shape[1] for size, own in in_stratum if own.any())
        if rows > subjects:
            raise ArgumentError(
                f"{spec.argument}: a subject{of} has {rows} rows, and there are {subjects} "
                "subjects: with fewer subjects than positions the likelihood of free covariances "
                "has no maximum. Take a structure with fewer parameters, such as 'ar1' or 'cs'."
            )


def _pairs_of_positions(sizes: Sequence[PatternsOfSize], k: int) -> int:
    """Number of positions, and of pairs of them, of the subjects of each stratum."""
    keys = []
    for size in sizes:
        i, j = np.tril_indices(size.positions.shape[1])
        at = size.positions.astype(np.int64)
        keys.append(((size.strata[:, None] * k + at[:, i]) * k + at[:, j]).ravel())
    return len(np.unique(np.concatenate(keys)))


def _strata(spec: CorrelatedSpec) -> list[str]:
    """Text after a name that says of which stratum it is."""
    return [f" in {stratum}" for stratum in spec.strata] or [""]


def _names(spec: CorrelatedSpec, structure: CovarianceStructure, at: Positions) -> list[str]:
    """``cov(VIS1, VIS2)`` or ``corr``."""
    try:
        names = structure.natural(structure.generic_params(at), at)[0]
    except ArgumentError:
        return [f"parameter {i + 1}" for i in range(structure.size(at))]
    return [
        re.sub(
            r"\[([\d, ]+)\]",
            lambda m: f"({', '.join(str(spec.labels[int(i)]) for i in m[1].split(','))})",
            name,
        )
        for name in names
    ]


def check_identified(
    design: Design, blocks: Sequence[CovarianceBlock], names: Sequence[str], *, reml: bool
) -> None:
    """
    Refuse residuals of which the rows, beside the random terms, do not identify the parameters.

    ``blocks`` are the covariances at values where no derivative vanishes by chance; ``names`` those
    of their parameters, one after the other.
    """
    terms = _plain_terms(design)
    derivatives = [_derivatives(block.structure, block.at) for block in blocks]
    columns = sum(map(len, derivatives)) + sum(len(D) for _, _, D in terms)
    n = design.rows.n
    if columns * n * _PROBES > _LARGEST:
        return  # the curvature at the optimum tells
    z = np.random.default_rng(0).standard_normal((n, _PROBES))
    project = _projector(design.rows.X if reml else np.zeros((n, 0)))
    start, moved = project(z), []
    for block, D in zip(blocks, derivatives, strict=True):
        moved += list(project(block.rows.along(D, start)))
    of_residual = len(moved)
    for rows, _, D in terms:
        moved += [project(_along(rows, d, start)) for d in D]
    involved = _dependent(np.array([m.ravel() for m in moved]).T)
    if not involved.any():
        return
    texts, ends = [text for _, text, _ in terms], np.cumsum([len(D) for _, _, D in terms])
    by_term = np.split(involved[of_residual:], ends[:-1]) if terms else []
    confounded = [text for text, own in zip(texts, by_term, strict=True) if own.any()]
    if involved[:of_residual].any():
        found = [name for name, own in zip(names, involved, strict=False) if own]
        _refuse(design.spec.residual.argument, confounded, found)


def _refuse(argument: str, terms: Sequence[str], names: Sequence[str]) -> None:
    """Say what cannot be told apart: random terms, or parameters of the residuals."""
    if terms:
        raise GroupingError(
            f"{argument} has the covariances that {' and '.join(terms)} would add: the rows of a "
            "subject cannot tell them apart. Leave the random term out, or take residuals with "
            "fewer parameters, such as 'ar1'."
        )
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    raise ArgumentError(
        f"{argument}: the rows do not identify {', '.join(names[:4])}{more}: no subjects have the "
        "rows that tell. Leave out positions that few subjects have, or take a structure with "
        "fewer parameters: 'toep', 'ar1' or 'cs' for levels, 'ou' for real times."
    )


def check_enough_pairs(
    argument: str, n_params: int, n_pairs: int, n_single: int, subjects: int
) -> None:
    """Refuse more parameters than there are pairs of positions, and no pairs at all."""
    if n_single == subjects and n_params > 1:
        raise ArgumentError(
            f"{argument}: each of the {subjects} subjects has a single row, so that there are no "
            "correlations of rows to estimate. Name the factor whose levels have several rows, or "
            "leave residual= out."
        )
    if n_params > n_pairs:
        raise ArgumentError(
            f"{argument} has {n_params} parameters, and subjects have rows at {n_pairs} positions "
            "and pairs of positions. Take a structure with fewer parameters, such as 'ar1', or for "
            "real times 'ou'; or make fewer positions."
        )


def _derivatives(structure: CovarianceStructure, at: Positions) -> Array:
    """Derivatives of a covariance by variances and correlations where it names them, (m, k, k)."""
    params = structure.generic_params(at)
    try:
        return structure.covariance_jacobian_natural(params, at)
    except ArgumentError:
        return structure.covariance_jacobian(params, at)


def _plain_terms(design: Design) -> list[tuple[RandomTermRows, str, Array]]:
    """Random terms with levels of their own: rows, text and derivatives."""
    found = []
    pairs = zip(
        design.rows.random_terms,
        design.spec.random_terms,
        parametrization_of(design.spec).terms,
        strict=True,
    )
    for rows, spec, (structure, at) in pairs:
        wide = at.k**2 * structure.size(at) > _LARGEST / 10
        if rows.memberships is None and not wide:
            found.append((rows, str(spec.formula_term), _derivatives(structure, at)))
    return found


def _along(rows: RandomTermRows, D: Matrix, U: Matrix) -> Matrix:
    """``Z (I x D) Z'U``."""
    sums = np.zeros((rows.n_levels, D.shape[0], U.shape[1]))
    np.add.at(sums, rows.codes, rows.model_matrix[:, :, None] * U[:, None, :])
    moved = np.einsum("ab,lbs->las", D, sums)
    return np.asarray(np.einsum("na,nas->ns", rows.model_matrix, moved[rows.codes]))


def _projector(X: Matrix) -> Callable[[Matrix], Matrix]:
    """Onto the orthogonal complement of the columns of X."""
    left, s, _ = np.linalg.svd(X, full_matrices=False)
    basis = left[:, s > 1e-10 * s.max(initial=0.0)]
    return lambda U: np.asarray(U - basis @ (basis.T @ U))


def _dependent(columns: Matrix) -> Mask:
    """Columns that a linear combination of zero has."""
    lengths = np.linalg.norm(columns, axis=0)
    largest = float(lengths.max(initial=0.0))
    lost = lengths <= _DEPENDENT * largest
    unit = columns / np.where(lost, 1.0, lengths)
    R = np.linalg.qr(unit[:, ~lost], mode="r")
    _, s, rows = np.linalg.svd(R)
    rank = int((s > _DEPENDENT * s.max(initial=0.0)).sum())
    null = rows[rank:]
    dependent = lost.copy()
    dependent[~lost] = np.abs(null).max(axis=0, initial=0.0) > _NEGLIGIBLE
    return np.asarray(dependent)
