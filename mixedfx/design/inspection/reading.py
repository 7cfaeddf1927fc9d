"""Rows as a formula reads them, as far as they can be read: nothing of a design is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx._names import decode
from mixedfx.design.checks import independent_columns
from mixedfx.design.columns import as_patsy_column, used_columns
from mixedfx.design.evaluation import build_matrices, group_values, learn_design_infos
from mixedfx.design.levels import combine, factorize
from mixedfx.design.membership import find_memberships
from mixedfx.design.table import Table
from mixedfx.design.used_rows import used_rows
from mixedfx.errors import DataError, EmptyDataError
from mixedfx.families.family import Family
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.formula.membership import is_membership
from mixedfx.formula.positions import ALL_ROWS, has_positions
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula, RandomTerm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_ROW_VECTORS = ("weights", "offset", "residual_sd")


@dataclass(frozen=True)
class Factor:
    """A grouping factor, a part of one, or a categorical variable of the fixed part."""

    name: str
    parts: tuple[str, ...]  # code of each factor that is combined
    roles: tuple[str, ...]  # "random", "part" of a random one, "fixed"
    codes: Codes = field(repr=False)  # (n,) level of each row
    labels: pd.Index = field(repr=False)

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.labels)

    @cached_property
    def counts(self) -> Codes:
        """Rows of each level."""
        return np.bincount(self.codes, minlength=self.n_levels)


@dataclass(frozen=True)
class Columns:
    """Model matrix of one part of a formula, with the columns of each term."""

    info: DesignInfo | None  # None: an intercept alone
    matrix: Matrix

    @cached_property
    def terms(self) -> dict[str, slice]:
        """Columns of each term, by its name."""
        if self.info is None:
            return {"Intercept": slice(0, 1)}
        return dict(self.info.term_name_slices)

    @cached_property
    def independent(self) -> Codes:
        """Positions of columns that do not depend on those before, of finite ones."""
        return independent_columns(self.matrix)


@dataclass(frozen=True)
class ReadRows:
    """Complete rows of a formula's variables, and what could be evaluated in them."""

    formula: Formula
    variables: Mapping[str, Any]
    env: EvalEnvironment = field(repr=False)
    n: int
    n_dropped: int
    refusals: list[str] = field(repr=False)  # why not all could be read
    _read: dict[str, Columns | None] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(formula: Formula, frame: pd.DataFrame, env: EvalEnvironment, family: Family) -> ReadRows:
        """Read the rows; a missing column is an error."""
        table = Table(frame)
        columns = used_columns(formula, table, env)
        try:
            used = used_rows(formula, {}, table, dict.fromkeys(_ROW_VECTORS), env, family)
            n = len(used.index)
            return ReadRows(formula, used.evaluated, env, n, used.n_dropped, [])
        except EmptyDataError:
            raise
        except DataError as error:
            refusal = str(error)
        keep = np.logical_and.reduce([column.notna().to_numpy() for column in columns.values()])
        if not keep.any():
            raise EmptyDataError("no row has a value in each of the columns of the formula.")
        variables = {
            name: as_patsy_column(name, column[keep].reset_index(drop=True))
            for name, column in columns.items()
        }
        n = int(keep.sum())
        return ReadRows(formula, variables, env, n, len(frame) - n, [refusal])

    def columns(self, text: str) -> Columns | None:
        """Columns of a part of the formula, read once; None where it cannot be evaluated."""
        if text not in self._read:
            self._read[text] = self._evaluated(text)
        return self._read[text]

    def _evaluated(self, text: str) -> Columns | None:
        if text == "1":
            return Columns(None, np.ones((self.n, 1)))
        try:
            info = learn_design_infos([terms_of(text)], self.variables, self.env)[0]
            return Columns(info, build_matrices([info], self.variables, self.n)[0])
        except DataError as error:
            self.refusals.append(str(error))
            return None

    @property
    def fixed(self) -> Columns | None:
        """Columns of the fixed part."""
        return self.columns(self.formula.fixed)

    def effects(self, term: RandomTerm) -> Columns | None:
        """Columns of a random term's effects; of effects at positions an intercept."""
        return self.columns("1" if has_positions(term.structure) else term.effects)

    # ------------------------------------------------------------ factors

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """Grouping factors, then their parts, then categorical variables of the fixed part."""
        roles: dict[tuple[str, ...], list[str]] = {}
        groups = [t.group for t in self.formula.random if not _has_no_levels(t.group)]
        for group in groups:
            roles.setdefault(group, []).append("random")
        for code in (code for group in groups if len(group) > 1 for code in group):
            roles.setdefault((code,), []).append("part")
        for code in self._categorical():
            roles.setdefault((code,), []).append("fixed")
        found = (self._factor(parts, of) for parts, of in roles.items())
        return tuple(factor for factor in found if factor is not None)

    @cached_property
    def random_factors(self) -> tuple[Factor, ...]:
        """Grouping factors of the random terms."""
        return tuple(f for f in self.factors if "random" in f.roles)

    def _factor(self, parts: tuple[str, ...], roles: Sequence[str]) -> Factor | None:
        try:
            values = [group_values(p, self.variables, self.env, self.n) for p in parts]
            levels, codes = combine([factorize(v) for v in values])
        except (DataError, TypeError) as error:
            self.refusals.append(str(error))
            return None
        once = tuple(dict.fromkeys(roles))
        return Factor(decode(":".join(parts)), parts, once, codes, levels.labels)

    def _categorical(self) -> list[str]:
        """Codes of the categorical variables that the fixed part reads."""
        if self.fixed is None or self.fixed.info is None:
            return []
        found = []
        for factor, learned in self.fixed.info.factor_infos.items():
            names = names_in(factor.name()) & set(self.variables)
            if learned.type == "categorical" and len(names) == 1:
                found.append(names.pop())
        return list(dict.fromkeys(found))

    def indicators(self, term: RandomTerm) -> sparse.csr_array | None:
        """Which levels of a term's grouping factor each row has, (n, levels)."""
        if is_membership(term.group[0]):
            texts = group_values(term.group[0], self.variables, self.env, self.n)
            found = find_memberships(texts)[1]
            return sparse.csr_array(found.weights.csr[found.codes])
        factor = next((f for f in self.random_factors if f.parts == term.group), None)
        if factor is None:
            return None
        shape = (self.n, factor.n_levels)
        return sparse.csr_array((np.ones(self.n), (np.arange(self.n), factor.codes)), shape=shape)

    # ------------------------------------------------------------ covariates

    @cached_property
    def covariates(self) -> dict[str, pd.Series]:
        """Variables of the fixed part and of effects, without the response, by identifier."""
        texts = [self.formula.fixed, *(t.effects for t in self.formula.random)]
        read = {
            name
            for text in texts
            for term in terms_of(text)
            for factor in term.factors
            for name in names_in(factor.name())
        }
        left_out = {n for c in response_code(self.formula.response).parts for n in names_in(c)}
        return {
            name: values
            for name, values in self.variables.items()
            if name in read - left_out and isinstance(values, pd.Series)
        }


def _has_no_levels(group: tuple[str, ...]) -> bool:
    return is_membership(group[0]) or group == (ALL_ROWS,)
