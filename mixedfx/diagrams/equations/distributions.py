r"""Distribution of a response around its mean, and the link of that mean, in symbols.

.. math:: y_{ij} \sim \mathrm{Binomial}(n_{ij}, p_{ij}), \qquad \mathrm{logit}(p_{ij}) = \dots
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mixedfx.diagrams.equations.expressions import (
    Summand,
    comma_list,
    number,
    squared,
    sum_line,
)
from mixedfx.diagrams.equations.layout import Line, single_line
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.errors import ArgumentError
from mixedfx.families.family import Family
from mixedfx.formula.response import response_code

# Names of distributions as they are written; others by the family's own name.
_NAMES = {
    "binomial": "Binomial",
    "poisson": "Poisson",
    "gaussian": "N",
    "gamma": "Gamma",
    "inverse_gaussian": "InverseGaussian",
    "nbinom1": "NegBinomial",
    "nbinom2": "NegBinomial",
    "beta": "Beta",
    "betabinomial": "BetaBinomial",
    "student": "t",
    "tweedie": "Tweedie",
}
# Variance of the response in words, where the parameter's meaning is not common knowledge.
_VARIANCES = {
    "gamma": "φ {m}²",
    "inverse_gaussian": "φ {m}³",
    "nbinom1": "{m} (1 + α)",
    "tweedie": "φ {m}ᵖ",
    "nbinom2": "{m} + α {m}²",
    "beta": "{m} (1 - {m}) / (1 + φ)",
}
_MEANS = {"probability": Math("p", "p"), "expected count": Math("λ", r"\lambda")}
_PARAMS = {
    "alpha": Math("α", r"\alpha"),
    "phi": Math("φ", r"\phi"),
    "power": Math("p", "p"),
    "sigma": Math("σ", r"\sigma"),
}


def family_symbols(family: Family, further: Sequence[str] = ()) -> list[Math]:
    """Symbols of a family's parameters; of thresholds one for all. Without one that is modelled."""
    modelled = family.dispersion_param if "dispersion" in further else None
    return [param_symbol(name) for name in family.param_symbols if name != modelled]


def param_symbol(name: str) -> Math:
    """Symbol of a parameter of a family."""
    return _PARAMS.get(name, Math.upright(name))


def response_parts(code: str) -> tuple[str, str | None]:
    """Codes of the response and of its trials, None where the response does not give them."""
    function, parts = response_code(code)
    if not function:
        return code, None
    return parts[0], _sum(*parts) if function == "cbind" else parts[1]


def _sum(successes: str, failures: str) -> str:
    """Code of the trials: ``n`` of ``k`` successes and ``n - k`` failures."""
    for end in (f" - {successes}", f" - ({successes})"):
        if failures.endswith(end):
            return failures.removesuffix(end)
    return f"({successes} + {failures})"


@dataclass(frozen=True)
class FamilyResponse:
    """
    Response with a distribution and a link.

    Parameters
    ----------
    family : Family
        The distribution, with its link.
    trials : str or bool
        The column of the trials, or whether there are any, where they are not in the response.
    params : mapping of str to float, optional
        Estimates of the family's parameters, to be written instead of symbols.
    """

    family: Family
    trials: str | bool = False
    params: Mapping[str, float] = field(default_factory=dict)

    def in_rows(self, indices: str) -> FamilyResponse:
        """The same where rows have these indices."""
        return self

    def further_linked(self, argument: str) -> Math:
        """Link function of what the formula of this argument is of."""
        raise ArgumentError(f"a response of one linear predictor has no {argument}.")

    def mean(self, taken: Math | None, indices: str) -> Math:
        """Symbol of a row's mean, another one than that of the overall mean."""
        symbol = _MEANS.get(self.family.mean_name, Math("μ", r"\mu"))
        if symbol == taken:
            symbol = Math("m", "m")
        return symbol.subscript(indices)

    def distribution(self, mean: Math, trials: Math | None, digits: int) -> Math:
        """Distribution of a row's response."""
        name = _NAMES.get(self.family.name, self.family.name)
        if self.family.takes_trials and trials is None:
            name = "Bernoulli"
        arguments = [] if trials is None else [trials]
        arguments += [mean, *(self._param(p, digits) for p in self.family.param_names)]
        latex = r"\mathcal{N}" if name == "N" else rf"\operatorname{{{name.replace('_', ' ')}}}"
        return Math(f"{name}(", f"{latex}(") + comma_list(arguments) + ")"

    @property
    def _distributed(self) -> str:
        """What has the family's distribution."""
        return "the response"

    def _param(self, name: str, digits: int) -> Math:
        symbol = self._value(name, digits)
        return squared(symbol) if name == "sigma" else symbol

    def _value(self, name: str, digits: int) -> Math:
        """A parameter, or its estimate."""
        value = self.params.get(name)
        return param_symbol(name) if value is None else number(value, digits)

    def linked(self, mean: Math) -> Math:
        """Link function of the mean."""
        name = self.family.link.name
        if name == "identity":
            return mean
        if name == "inverse":
            return Math("1 / ", "1 / ") + mean
        if name == "sqrt":
            return Math(f"√{mean.unicode}", rf"\sqrt{{{mean.latex}}}")
        latex = r"\log" if name == "log" else rf"\operatorname{{{name}}}"
        return Math(f"{name}(", f"{latex}(") + mean + ")"

    def lines(
        self, left: Math, mean: Math, trials: Math | None, summands: list[Summand], digits: int
    ) -> Iterator[Line]:
        """Distribution of the response, and the linear predictor broken into lines."""
        yield single_line(left, "~", self.distribution(mean, trials, digits))
        yield sum_line(self.linked(mean), summands)

    def notes(
        self, mean: Math, trials: Math | None, offset: Math | None, digits: int
    ) -> Iterator[str]:
        """What the parameters, the trials and the offset are."""
        if self.family.name in _VARIANCES:
            variance = _VARIANCES[self.family.name].format(m=mean.unicode)
            for name in self.family.param_names:
                symbol = param_symbol(name).unicode
                variance = variance.replace(symbol, self._value(name, digits).unicode)
            yield f"The variance of {self._distributed} is {variance}."
        if trials is not None:
            yield f"{trials} is the number of trials."
        if offset is not None:
            yield f"{offset} is an offset: its coefficient is one."
