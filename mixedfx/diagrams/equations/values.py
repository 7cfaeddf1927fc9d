"""What data add to a formula's equations: names of columns, estimates, and terms of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mixedfx.diagrams.equations.distributions import FamilyResponse
from mixedfx.formula.terms import Formula


@dataclass(frozen=True)
class Columns:
    """
    Names of a model's columns; those of a categorical term depend on the data.

    Parameters
    ----------
    fixed : sequence of str
        Of the fixed part; ``Intercept`` for the intercept.
    random : sequence of sequence of str
        Of each random term, in the formula's order.
    """

    fixed: Sequence[str]
    random: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Estimates:
    """
    A fit's estimates, to be written instead of symbols.

    Parameters
    ----------
    fixed : mapping of str to float
        Coefficient by column; NaN for a column that was left out.
    sds : sequence of mapping of str to float
        For each random term, in the formula's order: standard deviation by effect.
    sigma : float
        Residual standard deviation.
    correlations : sequence of mapping of (str, str) to float
        For each random term: correlation by pair of effects, in either order; may be left
        out where no term has several effects.

    Examples
    --------
    >>> from mixedfx.diagrams.equations import equation
    >>> estimates = Estimates({"Intercept": 7.1}, [{"Intercept": 1.2}], 1.6)
    >>> print(equation("rating ~ 1 + (1 | friend)", estimates=estimates).unicode)
    ratingᵢⱼ | Rᵢ ~ N(Rᵢ, 1.6²)
               Rᵢ ~ N(7.1, 1.2²)
    """

    fixed: Mapping[str, float]
    sds: Sequence[Mapping[str, float]]
    sigma: float
    correlations: Sequence[Mapping[tuple[str, str], float]] = ()

    @property
    def columns(self) -> Columns:
        """Names of the columns."""
        return Columns(tuple(self.fixed), tuple(tuple(sds) for sds in self.sds))


@dataclass(frozen=True)
class FurtherPredictor:
    """
    A linear predictor beside that of the mean.

    Parameters
    ----------
    formula : Formula
        Without a response.
    columns : Columns, optional
        Names of its columns.
    estimates : Estimates, optional
        To be written instead of symbols.
    """

    formula: Formula
    columns: Columns | None = None
    estimates: Estimates | None = None


@dataclass(frozen=True)
class RowTerms:
    """
    Weights, offset and residual standard deviations of the rows.

    Parameters
    ----------
    weights, offset : str or bool
        The name of the column, or whether there are any.
    residual_sd : str or None
        Of a model whose rows have their own residual standard deviations, what these are, for a
        note.
    response : FamilyResponse, optional
        Distribution and link of the response of a generalised model.
    structure : str or None
        Covariance structure of correlated residuals.
    further : mapping of str to FurtherPredictor
        Further linear predictors, by the argument of their formula.
    """

    weights: str | bool = False
    offset: str | bool = False
    residual_sd: str | None = None
    response: FamilyResponse | None = None
    structure: str | None = None
    further: Mapping[str, FurtherPredictor] = field(default_factory=dict)
