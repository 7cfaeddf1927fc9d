"""Cross-products of a mixed model's columns, which add up over portions of the rows.

    Z'WZ (by pairs of levels that share rows)    Z'W[X, y]    [X, y]'W[X, y]

Their size depends on the levels, not on the rows. For accuracy, y is replaced by its
least-squares residuals, an ill-conditioned X by ``X qr_R^-1`` with nearly orthogonal columns, and
the columns of each random term by those of a basis (:mod:`mixedfx.likelihood.basis`): Z stands
for these throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization, canonical_signs
from mixedfx.design.levels import Levels
from mixedfx.errors import DataError
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.size import check_memory_of_solver
from mixedfx.likelihood.stream import pair_sums
from mixedfx.linalg.cholesky.batched import flatten
from mixedfx.linalg.cholesky.block_matrix import (
    BlockLayout,
    BlockMatrix,
    BlockPattern,
)
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.cholesky.solver import CholeskySolver
from mixedfx.linalg.precision import PrecisionBasis
from mixedfx.linalg.solver import Factor, Solver
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

LevelBasis = Matrix | PrecisionBasis

CHOLESKY: Solver = CholeskySolver()
# A penalised residual sum of squares below this share of the response's is rounding.
_ZERO_PWRSS = 1e-14


@dataclass(frozen=True)
class TermPosition:
    """Columns of one random term among those of its grouping factor."""

    group: int  # number of the grouping factor
    start: int  # first of the term's columns within the group
    width: int  # number of its columns

    @property
    def columns(self) -> slice:
        """The term's columns within the group."""
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True)
class CrossProducts:
    """
    Cross-products of the rows: all that a Gaussian likelihood needs of the data.

    Those of two portions of the rows add up to those of both: ``a + b``.
    """

    n: int  # rows
    response: str  # name of the response
    names: tuple[str, ...]  # the p fixed columns
    groups: tuple[str, ...]  # grouping factors
    levels: tuple[Levels, ...] = field(repr=False)  # of each grouping factor
    ZtZ: BlockMatrix = field(repr=False)  # Z'WZ, by grouping factor
    ZtXy: tuple[Matrix, ...] = field(repr=False)  # Z'W[X qr_R^-1, y - X ols_coef], (K, p + 1, L)
    XytXy: Matrix = field(repr=False)  # (p + 1, p + 1) of [X qr_R^-1, y - X ols_coef]
    term_positions: tuple[TermPosition, ...]  # of the random terms, in formula order
    parametrization: Parametrization  # of the random terms' covariances
    bases: tuple[ColumnBasis, ...] = field(repr=False)  # of each term's columns
    ols_coef: Vector = field(repr=False)  # (p,) weighted least-squares coefficients
    qr_R: Matrix | None = field(repr=False)  # (p, p) upper triangular; None: identity
    log_weights: float  # sum of the logarithms of the weights
    # Of each grouping factor B of ``b = B v``, where effects are correlated between levels or a row
    # has several (:mod:`mixedfx.likelihood.level_basis`): its levels stand for the effects v.
    level_bases: tuple[LevelBasis | None, ...] = field(default=(), repr=False)
    sigma: float | None = None  # residual sd of a row of weight one, where it is known
    solver: Solver = CHOLESKY  # how ``Lambda'Z'WZ Lambda + I`` is factorised

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.XytXy, self.ols_coef, self.qr_R, *self.ZtXy, *self.level_bases)

    @cached_property
    def has_precision(self) -> bool:
        """Whether ``ZtZ`` is that of levels, and ``Z'WZ`` of their effects v is not formed."""
        return any(isinstance(B, PrecisionBasis) for B in self.level_bases)

    @property
    def p(self) -> int:
        """Number of fixed columns."""
        return len(self.names)

    @cached_property
    def symbolic(self) -> EliminationOrder:
        """Elimination order of ``Z'WZ``; cross-products of one pattern share it."""
        return self.solver.symbolic(self.ZtZ.pattern)

    @property
    def assembled(self) -> Any:
        """``Z'WZ`` in the order of elimination; cross-products with one ``ZtZ`` share it."""
        self._check_memory()
        return self.solver.assemble(self.ZtZ)

    def factorize(self, factors: Sequence[Matrix]) -> Factor:
        """Factorise ``Lambda'Z'WZ Lambda + I`` at one F of each term."""
        self._check_memory()
        return self.solver.factorize(self.ZtZ, self.lambdas_by_group(factors))

    def _check_memory(self) -> None:
        """Refuse, before it is allocated, what memory cannot hold: at the first use alone."""
        cache = self.ZtZ.cache
        if cache.get("checked") != self.solver:
            check_memory_of_solver(self.solver, self.ZtZ.pattern, self.groups)
            cache["checked"] = self.solver

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached properties out of copies and pickles."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Add the cross-products of other rows of the same model."""
        return _add(self, other) if isinstance(other, CrossProducts) else NotImplemented

    @cached_property
    def column_rms(self) -> tuple[Vector, ...]:
        """Weighted root mean square of each term's own columns, (k,): the inverse unit of its sds.

        ``Z'WZ = T^-T Z~'WZ~ T^-1``, a sum of squares for each column.
        """
        # Weights of a density that is not log-concave may have a negative sum.
        return tuple(
            np.sqrt(np.abs(basis.own_squares(products / self.n)))
            for basis, products in zip(self.bases, self.products_of_terms, strict=True)
        )

    @cached_property
    def products_of_terms(self) -> tuple[Matrix, ...]:
        """``Z~'WZ~`` of each term's columns over all rows, (k, k)."""
        return tuple(
            np.add.reduce(self.ZtZ.diagonal[s.group][s.columns, s.columns], axis=2)
            for s in self.term_positions
        )

    def own_factors(self, lambdas: Sequence[Matrix]) -> list[Matrix]:
        """``F_t = T_t^-1 Lambda_t`` of each term."""
        terms = zip(self.bases, lambdas, strict=True)
        return [basis.own_factor(np.asarray(lam)) for basis, lam in terms]

    def factors_at(self, theta: Vector) -> list[Matrix]:
        """F of each term at theta."""
        return self.own_factors(self.parametrization.lambdas(np.asarray(theta, dtype=float)))

    def lambdas(self, factors: Sequence[Matrix]) -> list[Matrix]:
        """Lower triangular Lambda of each term, of the covariance ``T F F'T'``."""
        return [basis.factor(F) for basis, F in zip(self.bases, factors, strict=True)]

    def theta(self, factors: Sequence[Matrix]) -> Vector:
        """Theta of factors in the bases, of any shape of square root; signs canonical."""
        parametrization = self.parametrization
        return canonical_signs(parametrization, parametrization.to_params(self.lambdas(factors)))

    def effects(self, own: Sequence[Matrix]) -> list[Matrix]:
        """Effects of each term's columns, (k, levels), from those of its bases."""
        effects = []
        for position, basis, v in zip(self.term_positions, self.bases, own, strict=True):
            B = self.level_basis(position.group)
            effects.append(basis.effects(v if B is None else v @ B.T))
        return effects

    def level_basis(self, factor: int) -> LevelBasis | None:
        """B of a grouping factor, None where its effects are those of its levels."""
        return self.level_bases[factor] if self.level_bases else None

    def changes_by_group(self) -> list[Matrix]:
        """T of each grouping factor: block-diagonal over its terms."""
        return self.lambdas_by_group([basis.T for basis in self.bases])

    def nu(self, *, reml: bool) -> int:
        """Denominator of the profiled sigma**2: n, or n - p under REML."""
        return self.n - self.p if reml else self.n

    @property
    def profiles_sigma(self) -> bool:
        """Whether sigma is unknown, and profiled out of the deviance."""
        return self.sigma is None

    def sigma_at(self, pwrss: float, nu: float) -> float:
        """The known sigma, or its estimate from the penalised residual sum of squares."""
        return math.sqrt(pwrss / nu) if self.sigma is None else self.sigma

    @property
    def condition(self) -> float:
        """Largest condition number of X, and of a term's columns, at unit length."""
        changes = [basis.inverse for basis in self.bases]
        if self.qr_R is not None:
            changes.append(self.qr_R)
        conditions = [np.linalg.cond(R / np.linalg.norm(R, axis=0)) for R in changes if len(R) > 1]
        return float(max(conditions, default=1.0))

    @property
    def log_det_qr(self) -> float:
        """``log |qr_R' qr_R|``."""
        if self.qr_R is None:
            return 0.0
        return 2.0 * float(np.log(np.abs(np.diag(self.qr_R))).sum())

    @property
    def ZtX(self) -> Matrix:
        """``Z'WX qr_R^-1``, (q, p), rows in the order of elimination."""
        out = np.zeros((self.symbolic.size, self.p))
        for f in self.ZtZ.layout.factors:
            out[self.symbolic.columns(f)] = flatten(self.ZtXy[f][:, : self.p])
        return out

    def lambdas_by_group(self, factors: Sequence[Matrix]) -> list[Matrix]:
        """F of each grouping factor: block-diagonal over its terms."""
        result = [np.zeros(d.shape[:2]) for d in self.ZtZ.diagonal]
        for position, lam in zip(self.term_positions, factors, strict=True):
            part = position.columns
            result[position.group][part, part] = lam
        return result

    def term_rows(self, arrays: list[Matrix]) -> list[Matrix]:
        """Each term's rows of one array per grouping factor."""
        return [arrays[s.group][s.columns] for s in self.term_positions]

    def term_blocks(self, arrays: list[Matrix]) -> list[Matrix]:
        """Each term's diagonal block of one square array per grouping factor."""
        return [arrays[s.group][s.columns, s.columns] for s in self.term_positions]

    @property
    def zero_pwrss(self) -> float:
        """Penalised residual sum of squares below which it is rounding of the response's."""
        return _ZERO_PWRSS * float(self.XytXy[-1, -1])

    def coefficients(self, in_basis: Vector) -> Vector:
        """``beta`` of ``qr_R (beta - ols_coef)``."""
        return np.asarray(self.ols_coef + solve_upper(self.qr_R, in_basis))

    def vcov_of_coefficients(self, in_basis: Matrix) -> Matrix:
        """Covariance of the coefficients of X from that of ``X qr_R^-1``."""
        if self.qr_R is None:
            return in_basis
        # A covariance that is not finite stays so: of a Hessian that is not.
        return solve_upper(self.qr_R, solve_upper(self.qr_R, in_basis).T)


def _add(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """Sum over the union of the levels, both in the first's basis and about its coefficients."""
    _check_independent_levels(a, b)
    if (a.names, a.groups, a.term_positions, a.parametrization) != (
        b.names,
        b.groups,
        b.term_positions,
        b.parametrization,
    ):
        raise DataError(
            "these cross-products are of different models: fixed columns "
            f"{', '.join(a.names)} and {', '.join(b.names)}, groups {', '.join(a.groups)} and "
            f"{', '.join(b.groups)}. Portions of one table need the same columns: make "
            "factors categorical with all their levels."
        )
    b = in_bases(b, a.bases)
    joined = [one.union(other) for one, other in zip(a.levels, b.levels, strict=True)]
    qr_R = b.qr_R if a.qr_R is None else a.qr_R
    Ta, Tb = _change_of_basis(a, a.ols_coef, qr_R), _change_of_basis(b, a.ols_coef, qr_R)
    ZtXy = []
    for f, (union, in_a, in_b) in enumerate(joined):
        from_a = np.einsum("kml,mc->kcl", a.ZtXy[f], Ta)
        from_b = np.einsum("kml,mc->kcl", b.ZtXy[f], Tb)
        L = len(union)
        ZtXy.append(_at_levels(from_a, in_a, L) + _at_levels(from_b, in_b, L))
    return replace(
        a,
        n=a.n + b.n,
        levels=tuple(
            own if _keeps_order(at, union) else union
            for own, (union, at, _) in zip(a.levels, joined, strict=True)
        ),
        ZtZ=_add_block_matrices(a.ZtZ, b.ZtZ, joined),
        ZtXy=tuple(ZtXy),
        XytXy=Ta.T @ a.XytXy @ Ta + Tb.T @ b.XytXy @ Tb,
        qr_R=qr_R,
        log_weights=a.log_weights + b.log_weights,
    )


def _check_independent_levels(*parts: CrossProducts) -> None:
    if any(B is not None for crossprod in parts for B in crossprod.level_bases):
        raise DataError(
            "cross-products with a relationship matrix or multiple memberships do not add up: "
            "their effects' basis is that of all rows."
        )


def in_bases(crossprod: CrossProducts, bases: tuple[ColumnBasis, ...]) -> CrossProducts:
    """Cross-products in other bases of the terms' columns."""
    changes = crossprod.lambdas_by_group(
        [own.inverse @ basis.T for own, basis in zip(crossprod.bases, bases, strict=True)]
    )
    ZtZ = crossprod.ZtZ

    def transform(i: int, values: Matrix, j: int) -> Matrix:
        return np.asarray(np.einsum("ca,cdl,db->abl", changes[i], values, changes[j]))

    return replace(
        crossprod,
        bases=bases,
        ZtZ=BlockMatrix(
            ZtZ.pattern,
            tuple(transform(f, values, f) for f, values in enumerate(ZtZ.diagonal)),
            {(i, j): transform(i, values, j) for (i, j), values in ZtZ.off_diagonal.items()},
            {f: transform(f, values, f) for f, values in ZtZ.within.items()},
        ),
        ZtXy=tuple(
            np.einsum("ca,cml->aml", change, ZtXy)
            for change, ZtXy in zip(changes, crossprod.ZtXy, strict=True)
        ),
    )


def _change_of_basis(crossprod: CrossProducts, ols_coef: Vector, qr_R: Matrix | None) -> Matrix:
    """T with ``[X own^-1, y - X own_coef] T = [X qr_R^-1, y - X ols_coef]``."""
    own = np.eye(crossprod.p) if crossprod.qr_R is None else crossprod.qr_R
    T = np.eye(crossprod.p + 1)
    T[:-1, :-1] = combinations_in_basis(own, qr_R)
    T[:-1, -1] = own @ (crossprod.ols_coef - ols_coef)
    return T


def _at_levels(array: Matrix, levels: Codes, L: int) -> Matrix:
    """Place the levels of an array among L levels, the others being zero."""
    out = np.zeros((*array.shape[:2], L))
    out[:, :, levels] = array
    return out


def _keeps_order(at: Codes, union: Levels) -> bool:
    """Whether levels with these numbers in a union are all of it, in the same order."""
    return len(at) == len(union) and bool((at == np.arange(len(at))).all())


def _add_block_matrices(
    A: BlockMatrix, B: BlockMatrix, joined: list[tuple[Levels, Codes, Codes]]
) -> BlockMatrix:
    """
    Sum of two block matrices, given the union of the levels and the numbers of each in it.

    The pattern of the sum is that of ``A`` or ``B``, with its symbolic factor, where it has the
    same positions.
    """
    diagonal = tuple(
        _at_levels(A.diagonal[f], in_A, len(union)) + _at_levels(B.diagonal[f], in_B, len(union))
        for f, (union, in_A, in_B) in enumerate(joined)
    )
    same_levels = all(_keeps_order(a, union) and _keeps_order(b, union) for union, a, b in joined)
    if same_levels and A.pattern.same(B.pattern):
        off_diagonal = {ij: A.off_diagonal[ij] + B.off_diagonal[ij] for ij in A.off_diagonal}
        within = {f: A.within[f] + B.within[f] for f in A.within}
        return BlockMatrix(A.pattern, diagonal, off_diagonal, within)
    blocks = {
        (i, j): pair_sums.add_blocks(
            (A.block(i, j), joined[i][1], joined[j][1]),
            (B.block(i, j), joined[i][2], joined[j][2]),
        )
        for i, j in A.pattern.pairs
    }
    pattern = BlockPattern(
        BlockLayout(A.layout.widths, tuple(len(union) for union, _, _ in joined)),
        {ij: pairs for ij, (pairs, _) in blocks.items()},
    )
    for own in (A.pattern, B.pattern):
        if own.same(pattern):
            pattern = own
            break
    return BlockMatrix(pattern, diagonal, {ij: values for ij, (_, values) in blocks.items()})
