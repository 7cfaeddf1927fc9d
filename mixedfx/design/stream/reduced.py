"""What is kept of all rows that were read in chunks, and what a fit needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from mixedfx.design.combinations import Combinations
from mixedfx.design.residual import ResidualRows

Codes = npt.NDArray[np.intp]


class ReducedRows(Protocol):
    """Sums, or blocks, of the rows of a model, by which it and smaller ones are fitted."""

    @property
    def moments(self) -> Any:
        """Numbers, means and products of the model's columns."""
        ...

    @property
    def in_memory(self) -> Sequence[Codes]:
        """Positions among the rows of the file of those in memory: sample, random sample."""
        ...

    @property
    def has_file(self) -> bool:
        """Whether all rows are in a file."""
        ...

    def with_response_of(self, rows: Any) -> Self:
        """The same with the response of other rows of the file."""
        ...

    def crossproducts(self, design: Any) -> Any:
        """Cross-products of a design whose columns are combinations of the model's."""
        ...

    def model_rows(self, design: Any) -> Any:
        """Rows of a generalised model, in blocks."""
        ...

    def residual(self, design: Any, columns: Combinations) -> ResidualRows:
        """Residual model of a design without its own."""
        ...

    def nesting(self, groups: Sequence[str]) -> dict[str, str]:
        """For each of some grouping factors nested in others, the innermost of those."""
        ...

    def without_file(self) -> Self:
        """The same without a file of rows."""
        ...
