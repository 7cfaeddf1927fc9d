r"""Ordered categories in symbols: their cumulative probabilities, and the latent predictor.

.. math:: \mathrm{logit}\,P(y_{ij} \le k) = \alpha_k - \eta_{ij}, \qquad \eta_{ij} = \dots
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mixedfx.diagrams.equations.distributions import FamilyResponse
from mixedfx.diagrams.equations.expressions import Summand, comma_list, number, sum_line
from mixedfx.diagrams.equations.layout import Line, single_line
from mixedfx.diagrams.equations.several_response import SeveralResponse
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.families.family import Family
from mixedfx.formula.terms import Formula

_ALPHA, _ETA = Math("α", r"\alpha"), Math("η", r"\eta")
_MINUS = Math(" − ", " - ")
_MOST_LISTED = 8


@dataclass(frozen=True)
class OrderedResponse(FamilyResponse):
    """Response of ordered categories; ``params`` are the thresholds."""

    def mean(self, taken: Math | None, indices: str) -> Math:
        """Symbol of a row's linear predictor."""
        return _ETA.subscript(indices)

    def distribution(self, mean: Math, trials: Math | None, digits: int) -> Math:
        """Ordered categories of the predictor and the thresholds."""
        return Math("Ordered(", r"\operatorname{Ordered}(") + comma_list([mean, _ALPHA]) + ")"

    def linked(self, mean: Math) -> Math:
        """Link of the cumulative probability."""
        name = self.family.link.name
        return Math(f"{name} P(y ≤ k)", rf"\operatorname{{{name}}} P(y \le k)")

    def lines(
        self, left: Math, mean: Math, trials: Math | None, summands: list[Summand], digits: int
    ) -> Iterator[Line]:
        """Distribution, cumulative probabilities, and the linear predictor."""
        yield single_line(left, "~", self.distribution(mean, trials, digits))
        yield single_line(self.linked(mean), "=", _ALPHA.subscript("k") + _MINUS + mean)
        if summands:
            yield sum_line(mean, summands)

    def notes(
        self, mean: Math, trials: Math | None, offset: Math | None, digits: int
    ) -> Iterator[str]:
        """The categories, the thresholds, and the offset."""
        labels = self.family.labels
        if labels:
            shown = [*labels[: _MOST_LISTED - 1], "...", labels[-1]]
            listed = " < ".join(labels if len(labels) <= _MOST_LISTED else shown)
            yield f"The categories are {listed}; k is one of all but the last."
        thresholds = f"The thresholds α {'are equidistant' if self._equidistant else 'increase'}"
        if self.params:
            values = [f"{n} {number(v, digits).unicode}" for n, v in self.params.items()]
            thresholds += f": {', '.join(values)}"
        yield thresholds + "."
        if offset is not None:
            yield f"{offset} is an offset: its coefficient is one."

    @property
    def _equidistant(self) -> bool:
        return "spacing" in self.family.param_names


def family_response(
    family: Family,
    trials: str | bool = False,
    params: Mapping[str, float] | None = None,
    further: Sequence[str] = (),
) -> FamilyResponse:
    """Response of a family; ``params`` are estimates, ``further`` formulas beside the mean's."""
    if further:
        return SeveralResponse(family, trials, params or {}, tuple(further))
    kind = OrderedResponse if family.ordered else FamilyResponse
    return kind(family, trials, params or {})


def formula_shown(formula: Formula, family: Family | None) -> Formula:
    """The formula whose coefficients there are: thresholds take the place of an intercept."""
    if family is None or family.has_intercept:
        return formula
    return replace(formula, fixed=f"{formula.fixed} - 1")
