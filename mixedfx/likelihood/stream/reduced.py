"""What a fit keeps of all rows that were read in chunks, and smaller models from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.residual import ResidualRows
from mixedfx.design.slim import raise_without_rows
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.likelihood.stream.assembly import nesting_of
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.likelihood.stream.row_blocks import rows_of_submodel, with_response_of
from mixedfx.likelihood.stream.submodels import Submodel

Codes = npt.NDArray[np.intp]

_OF_SUMS = (
    "this fit has sums of them alone, of a linear model's columns. Everything else that needs rows "
    "has them where the data are a DataFrame in memory."
)
_NO_FILE = (
    "this fit read them in chunks, and the file that it wrote of them is there as long as that fit "
    "is: it is not part of a fit that was pickled, saved or made slim. Fit the model again for it."
)


@dataclass(frozen=True)
class ReducedSums:
    """Cross-products of a linear model."""

    crossprod: CrossProducts = field(repr=False)
    moments: RowMoments = field(repr=False)
    strata: StratifiedSums | None = field(repr=False)  # by stratum of equal residual variance

    def crossproducts(self, design: Design) -> CrossProducts:
        """Cross-products of a design whose columns are combinations of the model's."""
        return Submodel.of(self.crossprod, design, _columns(design)).crossproducts()

    def model_rows(self, design: Design) -> NoReturn:
        """Not there: rows of a linear model are not kept."""
        raise_without_rows(_OF_SUMS)

    def residual(self, design: Design, columns: Combinations) -> ResidualRows:
        """Residual model of a design without its own: the sums by stratum, where there are some."""
        return design.rows.residual.of_submodel(
            lambda: Submodel.of(self.crossprod, design, columns).stratified(self.strata)
        )

    def nesting(self, groups: Sequence[str]) -> dict[str, str]:
        """For each of some grouping factors nested in others, the innermost of those."""
        return nesting_of(self.crossprod.ZtZ.pattern, self.crossprod.groups, groups)

    has_file: ClassVar[bool] = False
    in_memory: ClassVar[tuple[Codes, ...]] = ()

    def with_response_of(self, rows: Any) -> NoReturn:
        """Not there: a response has no sums without its rows."""
        raise_without_rows(_OF_SUMS)

    def without_file(self) -> Self:
        """The same: there is none."""
        return self


@dataclass(frozen=True)
class ReducedBlocks:
    """Rows of a generalised model in a file."""

    # None: there is no file, as of a fit that was read.
    rows: BlockedRows | None = field(repr=False, metadata={"kept": False})
    moments: RowMoments = field(repr=False)
    # Positions among all rows of those in memory: the sample, and the random one.
    in_memory: tuple[Codes, ...] = field(default=(), repr=False, metadata={"kept": False})

    def crossproducts(self, design: Design) -> NoReturn:
        """Not there: those of a generalised model depend on its estimates."""
        raise_without_rows(_OF_SUMS)

    def model_rows(self, design: Design) -> BlockedRows:
        """Rows of a design whose columns are combinations of the model's."""
        if self.rows is None:
            raise_without_rows(_NO_FILE)
        rows: Any = design.rows
        if rows.combined is None:
            return self.rows
        return rows_of_submodel(self.rows, design, rows.combined)

    def residual(self, design: Design, columns: Combinations) -> ResidualRows:
        """Residual model of a design without its own: none."""
        return design.rows.residual

    def nesting(self, groups: Sequence[str]) -> dict[str, str]:
        """For each of some grouping factors nested in others, the innermost of those."""
        if self.rows is None:
            raise_without_rows(_NO_FILE)
        return nesting_of(self.rows.pattern, self.rows.groups, groups)

    @property
    def has_file(self) -> bool:
        """Whether the file is there."""
        return self.rows is not None

    def with_response_of(self, rows: BlockedRows) -> Self:
        """The same with the response of other rows of the file."""
        own = None if self.rows is None else with_response_of(self.rows, rows)
        return replace(self, rows=own)

    def without_file(self) -> Self:
        """The same, once the file is gone."""
        return replace(self, rows=None, in_memory=())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the file out of copies and pickles."""
        return {"rows": None, "moments": self.moments, "in_memory": ()}


def _columns(design: Design) -> Combinations:
    rows: Any = design.rows
    columns: Combinations = rows.combinations()
    return columns
