"""Averages of several models by their information criteria: :func:`model_avg`.

With ``Delta_i`` the criterion of model i less the smallest, ``w_i ~ exp(-Delta_i / 2)``. An
estimate is ``b = sum w_i b_i`` with the unconditional variance ``sum w_i (v_i + (b_i - b)^2)``
(Burnham and Anderson 2004, equation 4), or ``(sum w_i sqrt(v_i + (b_i - b)^2))^2`` (Buckland,
Burnham and Augustin 1997, equation 9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx._escaping import html_block
from mixedfx.errors import ArgumentError, check_choice, check_flag, check_share
from mixedfx.inference.comparison import check_comparable, same_criterion
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.inference.information_criteria import CRITERIA
from mixedfx.inference.wald import t_quantile
from mixedfx.results.comparison import named_fits
from mixedfx.results.results import Results

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class ModelAverage:
    """
    Several models, weighted by an information criterion.

    Parameters
    ----------
    models : pandas.DataFrame
        A row per model, the best first: ``npar llf``, the criterion, ``delta weight``.
    full : pandas.DataFrame
        Coefficients averaged over all models, zero in those that leave one out: ``term estimate
        std_error adjusted_se statistic p_value conf_low conf_high``.
    conditional : pandas.DataFrame
        The same, of each coefficient over the models that have it.
    importance : pandas.Series
        Sum of the weights of the models that have each coefficient.
    fits : tuple of Results
        The models, in the order given.
    weights : ndarray
        Their weights.
    revised : bool
        Whether errors are by the equation of 2004.
    """

    models: pd.DataFrame
    full: pd.DataFrame
    conditional: pd.DataFrame
    importance: pd.Series
    fits: tuple[Results, ...] = field(compare=False)
    weights: Vector = field(compare=False)  # in the order given
    revised: bool = field(compare=False)

    @property
    def params(self) -> pd.Series:
        """Coefficients averaged over all models."""
        return self.full.set_index("term")["estimate"]

    def tidy(self, *, full: bool = True) -> pd.DataFrame:
        """
        Tabulate the averaged coefficients.

        Parameters
        ----------
        full : bool
            Over all models, or else over those that have the coefficient.

        Returns
        -------
        pandas.DataFrame
            ``full`` or ``conditional``.
        """
        check_flag("full", full)
        return (self.full if full else self.conditional).copy()

    def predict(self, data: Any = None, *, se: bool = False, **options: Any) -> Any:
        """
        Average the predictions of the models.

        Parameters
        ----------
        data : DataFrame, optional
            New rows; without it, those of the fits.
        se : bool
            Whether to add unconditional standard errors.
        **options
            ``random``, ``new_levels``, ``which`` and ``average`` of :meth:`Results.predict`;
            predictions are averaged on the scale of ``which``.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            As of :meth:`Results.predict`.
        """
        check_flag("se", se)
        if "interval" in options or "to" in options:
            raise ArgumentError("an average has no interval= and no to=; se=True has its errors.")
        found = [fit.predict(data, se=se, **options) for fit in self.fits]
        if not se:
            values = np.array([one.to_numpy() for one in found])
            average = np.tensordot(self.weights, values, axes=1)
            if found[0].ndim == 1:
                return pd.Series(average, index=found[0].index, name=found[0].name)
            return pd.DataFrame(average, index=found[0].index, columns=found[0].columns)
        estimates = np.array([one["predicted"].to_numpy() for one in found])
        variances = np.array([one["std_error"].to_numpy() for one in found]) ** 2
        mean, error = _average(estimates, variances, self.weights[:, None], revised=self.revised)
        return pd.DataFrame({"predicted": mean, "std_error": error}, index=found[0].index)

    def __repr__(self) -> str:
        """Tables of the models and of the coefficients."""
        coefficients = self.full.to_string(index=False, float_format="%.4g")
        return (
            f"Models:\n{self.models.to_string(float_format='%.4g')}\n\n"
            f"Coefficients averaged over all models:\n{coefficients}"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_block(self.models.to_html(border=0) + self.full.to_html(border=0, index=False))


def model_avg(
    *fits: Results | Sequence[Results] | Mapping[str, Results],
    names: Sequence[str] | None = None,
    rank: Literal["aicc", "aic", "bic"] = "aicc",
    revised_var: bool = True,
    df_method: DfMethod = "normal",
    conf_level: float = 0.95,
) -> ModelAverage:
    """
    Average several models by the weights of an information criterion, as R's MuMIn.

    Parameters
    ----------
    *fits : Results
        Two or more of the same response in the same rows, fitted by maximum likelihood; or one
        list of them, or one mapping from names to them.
    names : sequence of str, optional
        Names of the models; by default their formulas, or the keys of the mapping.
    rank : {"aicc", "aic", "bic"}
        Criterion of the weights: Akaike's, corrected for the number of rows or not, or Schwarz's.
    revised_var : bool
        Errors by Burnham and Anderson's equation of 2004, or by the earlier one of Buckland and
        others, which is a little smaller.
    df_method : {"normal", "satterthwaite", "residual"}
        With degrees of freedom each model's variance is inflated by ``(t / z)**2`` of their
        quantiles (Burnham and Anderson 2002, section 4.3.3).
    conf_level : float
        Coverage of the intervals.

    Returns
    -------
    ModelAverage
        With ``models``, ``full``, ``conditional``, ``importance`` and ``predict()``.

    Raises
    ------
    ArgumentError
        If rows or responses differ, two fits have the same columns and random terms, or fits are
        by REML with different fixed parts, whose criteria are not comparable.

    Notes
    -----
    A coefficient is averaged with those of its name in other models: average models in which it
    means the same, so no main effects with and without their interaction unless covariates are
    centred and factors coded by sums. With ``df_method="normal"`` intervals and tests are MuMIn's
    of lme4's fits.

    References
    ----------
    .. [1] Burnham and Anderson (2004), Multimodel inference, Sociol. Methods Res. 33:261.
    .. [2] Buckland, Burnham and Augustin (1997), Model selection: an integral part of inference,
       Biometrics 53:603.
    .. [3] Lukacs, Burnham and Anderson (2010), Ann. Inst. Stat. Math. 62:117: the average over all
       models.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> cake = mfx.datasets.load("cake")
    >>> parts = ["temp", "recipe + temp"]
    >>> fits = [
    ...     mfx.lmer(f"angle ~ {part} + (1 | recipe:replicate)", cake, reml=False) for part in parts
    ... ]
    >>> average = mfx.model_avg(fits, names=parts)
    >>> average.models[["npar", "delta", "weight"]].round(3)
                   npar  delta  weight
    model
    temp              4  0.000    0.86
    recipe + temp     6  3.638    0.14
    """
    listed, labels = named_fits("model_avg", fits, names)
    labels = [fit.model.formula_text for fit in listed] if labels is None else labels
    check_choice("rank", rank, CRITERIA)
    check_flag("revised_var", revised_var)
    check_share("conf_level", conf_level)
    _check_comparable(listed, labels)
    values = np.array([CRITERIA[rank](fit.model) for fit in listed])
    delta = values - values.min()
    weights = np.exp(-0.5 * delta) / np.exp(-0.5 * delta).sum()
    table = {
        "npar": [fit.df_modelwc for fit in listed],
        "llf": [fit.llf for fit in listed],
        rank: values,
        "delta": delta,
        "weight": weights,
    }
    models = pd.DataFrame(table, index=pd.Index(labels, name="model"))
    tests = [fit.tidy(df_method=df_method).set_index("term") for fit in listed]
    coefficients = _Coefficients.of(tests, weights, revised_var, conf_level)
    return ModelAverage(
        models=models.sort_values("weight", ascending=False, kind="stable"),
        full=coefficients.table(full=True),
        conditional=coefficients.table(full=False),
        importance=coefficients.importance(),
        fits=tuple(listed),
        weights=weights,
        revised=revised_var,
    )


def _check_comparable(fits: Sequence[Results], names: Sequence[str]) -> None:
    if len(fits) < 2:
        raise ArgumentError("model_avg() averages two fits or more.")
    first, seen = fits[0], dict[Any, str]()
    for fit, name in zip(fits, names, strict=True):
        if fit.model.priors.specified:
            raise ArgumentError(f"'{name}' has priors: weights are of likelihoods, without priors.")
        check_comparable(first.model, names[0], fit.model, name)
        if not same_criterion(first.model, fit.model):
            raise ArgumentError(
                f"'{names[0]}' and '{name}' are not comparable: REML criteria compare only between "
                "fits of the same fixed columns. Fit all of them by maximum likelihood, "
                "lmer(..., reml=False)."
            )
        model = (tuple(sorted(fit.params.dropna().index)), fit.model.n_params, fit.llf)
        if model in seen:
            raise ArgumentError(
                f"'{seen[model]}' and '{name}' are the same model, which would count twice; leave "
                "one of them out."
            )
        seen[model] = name


@dataclass(frozen=True)
class _Coefficients:
    """Coefficients of all models, NaN where a model has none."""

    terms: list[str]
    estimates: Matrix  # (models, terms)
    variances: Matrix
    inflation: Matrix  # (t / z)^2
    weights: Vector  # (models,)
    revised: bool
    conf_level: float

    @staticmethod
    def of(
        tests: Sequence[pd.DataFrame], weights: Vector, revised: bool, conf_level: float
    ) -> _Coefficients:
        terms = list(dict.fromkeys(name for t in tests for name in t.index[t["estimate"].notna()]))

        def values(column: str) -> Matrix:
            return np.array([t[column].reindex(terms).to_numpy(dtype=float) for t in tests])

        z = special.ndtri(0.5 + conf_level / 2)
        inflation = (t_quantile(0.5 + conf_level / 2, values("df")) / z) ** 2
        variances = values("std_error") ** 2
        return _Coefficients(
            terms, values("estimate"), variances, inflation, weights, revised, conf_level
        )

    def importance(self) -> pd.Series:
        """Sums of weights, the largest first."""
        sums = np.where(np.isnan(self.estimates), 0.0, self.weights[:, None]).sum(axis=0)
        found = pd.Series(sums, index=pd.Index(self.terms, name="term"), name="importance")
        return found.sort_values(ascending=False, kind="stable")

    def table(self, *, full: bool) -> pd.DataFrame:
        """Averages, errors, tests and intervals."""
        present = ~np.isnan(self.estimates)
        weights = np.where(present | full, self.weights[:, None], 0.0)
        weights = weights / weights.sum(axis=0)
        b, v = np.nan_to_num(self.estimates), np.nan_to_num(self.variances)
        inflated = v * np.nan_to_num(self.inflation)
        mean, error = _average(b, v, weights, revised=self.revised)
        _, adjusted = _average(b, inflated, weights, revised=self.revised)
        half = special.ndtri(0.5 + self.conf_level / 2) * adjusted
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = mean / adjusted
        columns = {
            "estimate": mean,
            "std_error": error,
            "adjusted_se": adjusted,
            "statistic": statistic,
            "p_value": 2.0 * special.ndtr(-np.abs(statistic)),
            "conf_low": mean - half,
            "conf_high": mean + half,
        }
        return pd.DataFrame({"term": self.terms, **columns})


def _average(b: Matrix, v: Matrix, weights: Matrix, *, revised: bool) -> tuple[Vector, Vector]:
    """Averages over the first axis, and their unconditional standard errors."""
    mean = (weights * b).sum(axis=0)
    squares = v + (b - mean) ** 2
    if revised:
        return mean, np.sqrt((weights * squares).sum(axis=0))
    return mean, (weights * np.sqrt(squares)).sum(axis=0)
