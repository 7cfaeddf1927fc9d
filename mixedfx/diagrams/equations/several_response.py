r"""Response with excess zeros or a modelled dispersion, in symbols.

.. math:: y_{ij} \sim \pi_{ij}\, \delta_0 + (1 - \pi_{ij})\, \mathcal D(\mu_{ij}, \alpha_{ij})
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mixedfx.diagrams.equations.distributions import FamilyResponse, param_symbol
from mixedfx.diagrams.graph.symbols import Math

_PI = Math("π", r"\pi")
_ZERO, _REST = Math(" δ₀ + (1 − ", r"\, \delta_0 + (1 - "), Math(") ", r")\, ")


@dataclass(frozen=True)
class SeveralResponse(FamilyResponse):
    """
    Response with a linear predictor of its zeros, of its dispersion parameter, or of both.

    Parameters
    ----------
    further : tuple of str
        Arguments of the formulas beside that of the mean.
    indices : str
        Of a row.
    """

    further: tuple[str, ...] = ()
    indices: str = ""

    def in_rows(self, indices: str) -> FamilyResponse:
        """With the indices of a row."""
        return replace(self, indices=indices)

    def further_linked(self, argument: str) -> Math:
        """Logit of the probability of a zero, logarithm of the dispersion parameter."""
        if argument == "zero_inflation":
            return Math("logit(", r"\operatorname{logit}(") + self._pi + ")"
        modelled = param_symbol(str(self.family.dispersion_param)).subscript(self.indices)
        return Math("log(", r"\log(") + modelled + ")"

    def distribution(self, mean: Math, trials: Math | None, digits: int) -> Math:
        """Mixture of a zero and the family's distribution, where there is a zero part."""
        found = super().distribution(mean, trials, digits)
        if "zero_inflation" not in self.further:
            return found
        return self._pi + _ZERO + self._pi + _REST + found

    def notes(
        self, mean: Math, trials: Math | None, offset: Math | None, digits: int
    ) -> Iterator[str]:
        """What the probability is of."""
        if "zero_inflation" in self.further:
            rest = "beside those of the distribution"
            if self.family.truncated:
                rest = "and the distribution is of positive counts"
            yield f"δ₀ is a zero; {self._pi} is its probability, {rest}."
        yield from super().notes(mean, trials, offset, digits)

    def _value(self, name: str, digits: int) -> Math:
        if "dispersion" in self.further and name == self.family.dispersion_param:
            return param_symbol(name).subscript(self.indices)
        return super()._value(name, digits)

    @property
    def _pi(self) -> Math:
        return _PI.subscript(self.indices)

    @property
    def _distributed(self) -> str:
        return "the distribution" if "zero_inflation" in self.further else super()._distributed
