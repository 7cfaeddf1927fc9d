"""What a fit keeps of rows that were read in chunks: their number, and a sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixedfx.design.combinations import Combinations, combination
from mixedfx.design.rows import ModelRows
from mixedfx.design.slim import SlimRows, raise_without_rows
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.reduced import ReducedRows
from mixedfx.design.stream.strata import weighted_by_stratum

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_STREAMED = (
    "this fit read them in chunks: fit.augment(source, to='folder') writes the fitted values and "
    "residuals of all rows to files, and fit.predict(source, to='folder') predictions. Everything "
    "else that needs rows has them where the data are a DataFrame in memory."
)


@dataclass(frozen=True)
class StreamedRows(SlimRows):
    """Stands for rows that were read in chunks."""

    reason: ClassVar[str] = _STREAMED

    # Of each combination of factors' values some row; grouping factors are stand-ins.
    sample: ModelRows
    random_sample: ModelRows  # rows drawn at random, with their levels
    missing: Mapping[str, int]
    weight_ratio: float
    design: ChunkDesign  # makes the rows of a chunk
    # Mean over the rows of the residual variance over sigma**2, by sums of 1 / prior weight of the
    # strata, where there are several.
    mean_variance: float = 1.0
    inverse_weights: Vector | None = None
    given: StreamedRows | None = None  # without the estimated weights, where there are some
    reduced: ReducedRows | None = None  # sums or blocks of all rows
    # The columns as combinations of those that these are of; None: they are those.
    combined: Combinations | None = None

    def as_given(self, prior_weights: Callable[[], Any]) -> StreamedRows:
        """Without the estimated weights."""
        return self.given or self

    @property
    def has_file(self) -> bool:
        """Whether all rows are in a file, which is that of this process."""
        return self.reduced is not None and self.reduced.has_file

    def with_response_of(
        self, rows: Any, kept: Sequence[Mapping[str, Vector]] = ()
    ) -> StreamedRows:
        """
        The same with the response of other rows of the file, whose summaries are others.

        ``kept`` are the response and its own weights, if any, of the sample and the random one.
        """
        summaries = {name: v for name, v in self.summaries.items() if name == "qr R"}
        sample, drawn = self.sample, self.random_sample
        if kept:
            sample, drawn = sample.replaced(**kept[0]), drawn.replaced(**kept[1])
        return replace(
            self,
            has_weights=sample.weights is not None,
            sample=sample,
            random_sample=drawn,
            summaries=summaries,
            combined=self.combinations(),
            reduced=known(self).with_response_of(rows),
        )

    def without_file(self) -> StreamedRows:
        """The same without the file that all rows were written to, if there is one."""
        return replace(self, reduced=None if self.reduced is None else self.reduced.without_file())

    def with_stratum_weights(self, relative: Vector) -> StreamedRows:
        """Multiply the prior weights by those of the strata."""
        assert self.design.strata is not None
        assert self.inverse_weights is not None
        strata = replace(self.design.strata, weights=relative)
        return replace(
            self,
            has_weights=True,
            given=self,
            sample=weighted_by_stratum(self.sample, relative),
            random_sample=weighted_by_stratum(self.random_sample, relative),
            design=replace(self.design, strata=strata),
            mean_variance=float((self.inverse_weights / relative).sum()) / self.n,
        )

    def combinations(self) -> Combinations:
        """The columns as combinations of those that the rows were reduced for."""
        if self.combined is not None:
            return self.combined
        widths = [term.model_matrix.shape[1] for term in self.sample.random_terms]
        return Combinations.identity(len(self.design.spec.kept_columns), widths)

    def with_fixed(self, X: Matrix, columns: Callable[[ModelRows], Matrix]) -> StreamedRows:
        """The rows with other fixed columns, X of the sample, which ``columns`` makes of any."""
        before, own = self.combinations(), self.sample.X
        L = combination(own, X) if own.shape[1] == before.fixed.shape[1] else None
        if L is None:
            raise_without_rows(self.reason)
        drawn = self.random_sample
        summaries = {}
        if (R := self.summaries.get("qr R")) is not None:
            summaries["qr R"] = np.linalg.qr(R @ L, mode="r")
        return replace(
            self,
            sample=self.sample.with_fixed(X, columns),
            random_sample=drawn.with_fixed(columns(drawn), columns),
            summaries=summaries,
            combined=before.of_fixed(L),
        )

    def with_effects(self, left: Sequence[tuple[int, Matrix]]) -> StreamedRows:
        """Some of the random terms, by their numbers, with combinations (k, effects) of columns."""
        summaries = {name: v for name, v in self.summaries.items() if name == "qr R"}
        return replace(
            self,
            sample=self.sample.with_effects(left),
            random_sample=self.random_sample.with_effects(left),
            summaries=summaries,
            combined=self.combinations().of_terms(left),
        )

    def with_variables(self, names: Collection[str]) -> StreamedRows:
        """The kept rows with these of their variables alone."""
        return replace(
            self,
            sample=self.sample.with_variables(names),
            random_sample=self.random_sample.with_variables(names),
        )

    def of_submodel(self, design: Any) -> StreamedRows:
        """The rows of a design with these columns, which makes those of a chunk too."""
        own = replace(self, design=replace(self.design, spec=design.spec))
        return replace(own, residual=known(self).residual(design, self.combinations()))

    def nesting(self, groups: Sequence[str]) -> dict[str, str]:
        """For each of some grouping factors nested in others, the innermost of those."""
        return known(self).nesting(groups)


def known(rows: StreamedRows) -> ReducedRows:
    """Sums or blocks of all rows; RowsNotInMemory where they were not kept."""
    if rows.reduced is None:
        raise_without_rows(rows.reason)
    return rows.reduced
