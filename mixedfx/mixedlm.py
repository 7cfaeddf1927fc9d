"""A fit of statsmodels' MixedLM as a fit of this package: :func:`from_statsmodels`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx.api import ModelOptions, fit_formula, warned_results
from mixedfx.errors import ArgumentError, MixedfxWarning, brief
from mixedfx.estimation.notes import Note
from mixedfx.results.results import Results

Matrix = npt.NDArray[np.float64]

# A difference of log-likelihoods that is not of the two programs' tolerances.
_OTHER_END = 1e-3


def from_statsmodels(results: Any) -> Results:
    """
    Take over a fit of statsmodels' ``MixedLM``.

    Parameters
    ----------
    results : MixedLMResults
        As returned by ``smf.mixedlm(...).fit()`` or ``sm.MixedLM(...).fit()``.

    Returns
    -------
    Results
        The same model, fitted to the same rows by the same criterion: tests with degrees of
        freedom, predictions with random effects, intervals, R squared, plots. ``fit.formula`` is
        the model in lme4's spelling. A note says so if statsmodels ended below the optimum.

    Raises
    ------
    ArgumentError
        If it is no fit of MixedLM, was penalised, has a restriction other than uncorrelated
        random effects, or its rows were removed.

    Examples
    --------
    >>> import mixedfx as mfx, statsmodels.formula.api as smf
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> theirs = smf.mixedlm("Reaction ~ Days", sleep, groups="Subject", re_formula="~Days").fit()
    >>> fit = mfx.from_statsmodels(theirs)
    >>> str(fit.formula)
    'Reaction ~ Days + (Days | Subject)'
    >>> fit.tidy()[["term", "estimate", "df"]].round(1)
            term  estimate    df
    0  Intercept     251.4  17.0
    1       Days      10.5  17.0
    """
    results = getattr(results, "_results", results)
    _check(results)
    model = _Translation.of(results.model, getattr(results, "freepat", None))
    formula = f"{model.response} ~ {model.fixed} + {' + '.join(model.random)}"
    fit = fit_formula(
        EvalEnvironment.capture(1), formula, model.data, ModelOptions(reml=bool(results.reml))
    )
    ours, theirs = -0.5 * fit.deviance, float(results.llf)
    if ours > theirs + _OTHER_END:
        text = (
            f"statsmodels' fit has the log-likelihood {theirs:.4f}, and the optimum is {ours:.4f}: "
            "its search ended too early, and the estimates here are other ones."
        )
        fit = replace(fit, notes=(*fit.notes, Note(text, MixedfxWarning)))
    return warned_results(fit)


def _check(results: Any) -> None:
    model = getattr(results, "model", None)
    if model is None or type(model).__name__ != "MixedLM":
        raise ArgumentError(
            f"from_statsmodels() takes a fit of MixedLM, and {brief(results)} is none: "
            "fit = smf.mixedlm('y ~ x', data, groups='g').fit(); mfx.from_statsmodels(fit)."
        )
    if getattr(model, "endog", None) is None or getattr(model, "exog", None) is None:
        raise ArgumentError("the rows of this fit were removed (remove_data()); fit it anew.")
    if model.fe_pen is not None or model.cov_pen is not None:
        raise ArgumentError(
            "this fit is penalised (fe_pen=, cov_pen=); priors= of mfx.lmer() is for that."
        )


class _Translation:
    """Columns of the rows, and the parts of the formula that use them."""

    def __init__(self, data: pd.DataFrame) -> None:
        self.data = data
        self.response, self.fixed = "", ""
        self.random: tuple[str, ...] = ()

    @staticmethod
    def of(model: Any, freepat: Any) -> _Translation:
        """Translate a model; ``freepat`` says which of its parameters were free."""
        frame = getattr(model.data, "frame", None)
        formula = getattr(model, "formula", None)
        if formula is not None and frame is not None and len(frame) == len(model.endog):
            found = _Translation(pd.DataFrame(frame).copy())
            found.response, found.fixed = (part.strip() for part in formula.split("~", 1))
        else:
            found = _Translation(pd.DataFrame(index=range(len(model.endog))))
            found.response = found._column(_named(model.endog_names, "y"), model.endog)
            names = zip(model.exog_names, np.asarray(model.exog).T, strict=True)
            found.fixed = "0 + " + " + ".join(found._column(n, values) for n, values in names)
        group = found._group(model)
        found.random = (*found._effects(model, freepat, group), *found._components(model, group))
        return found

    def _column(self, name: Any, values: Any) -> str:
        """Name of a column with these values, which is added unless the data has it."""
        wanted = str(name) if str(name).isidentifier() else "x"
        values = np.asarray(values)
        own, number = wanted, 1
        while own in self.data and not _equal(self.data[own], values):
            own, number = f"{wanted}_{number}", number + 1
        if own not in self.data:
            self.data[own] = values
        return own

    def _group(self, model: Any) -> str:
        """Column of the grouping factor."""
        names = [str(n).removesuffix(" Var") for n in (model.data.exog_re_names or ["Group"])]
        candidates = [c for c in (*names, *map(str, self.data.columns)) if c in self.data]
        for name in candidates:
            if name.isidentifier() and _equal(self.data[name], model.groups):
                return name
        # The intercept among the random effects has the name of the grouping factor.
        ones = model.k_re and (np.asarray(model.exog_re)[:, 0] == 1.0).all()
        return self._column(names[0] if ones else "Group", model.groups)

    def _effects(self, model: Any, freepat: Any, group: str) -> tuple[str, ...]:
        """Term of the columns of ``exog_re``."""
        if not model.k_re:
            return ()
        Z = np.asarray(model.exog_re)
        ones = [bool((column == 1.0).all()) for column in Z.T]
        names = [
            self._column(name, column)
            for name, column, one in zip(model.data.exog_re_names, Z.T, ones, strict=True)
            if not one
        ]
        left = " + ".join(["1" if any(ones) else "0", *names])
        bar = "|" if _is_free(freepat, model.k_re) else "||"
        return (f"({left} {bar} {group})",)

    def _components(self, model: Any, group: str) -> tuple[str, ...]:
        """Terms of the variance components, each of which has one variance."""
        found = []
        for name, mats in zip(model.exog_vc.names, model.exog_vc.mats, strict=True):
            mats = [m.toarray() if hasattr(m, "toarray") else np.asarray(m) for m in mats]
            rows = [np.asarray(model.row_indices[label]) for label in model.group_labels]
            if all(_is_indicator(m) for m in mats):
                levels = np.empty(len(model.endog), dtype=int)
                for at, matrix in zip(rows, mats, strict=True):
                    levels[at] = matrix.argmax(axis=1)
                found.append(f"(1 | {group}:{self._column(f'{name}_level', levels)})")
                continue
            width = max(m.shape[1] for m in mats)
            columns = np.zeros((len(model.endog), width))
            for at, matrix in zip(rows, mats, strict=True):
                columns[at, : matrix.shape[1]] = matrix
            named = [
                self._column(f"{name}_{j}" if width > 1 else name, columns[:, j])
                for j in range(width)
            ]
            inner = f"0 + {' + '.join(named)} | {group}"
            found.append(f"({inner})" if width == 1 else f"homdiag({inner})")
        return tuple(found)


def _named(name: Any, default: str) -> str:
    return name if isinstance(name, str) else default


def _equal(column: pd.Series, values: Any) -> bool:
    other = np.asarray(values)
    if len(column) != len(other):
        return False
    same = np.asarray(column.to_numpy(dtype=object) == other.astype(object))
    return bool(same.all())


def _is_indicator(matrix: Matrix) -> bool:
    """Whether each row has one entry of one, all others being zero."""
    return bool(((matrix == 0.0) | (matrix == 1.0)).all() and (matrix.sum(axis=1) == 1.0).all())


def _is_free(freepat: Any, k: int) -> bool:
    """Whether the covariance of the random effects is free; False: it is diagonal."""
    if freepat is None or k < 2:
        return True
    free = np.asarray(freepat.cov_re) != 0.0
    if free.all():
        return True
    if np.asarray(freepat.fe_params).all() and (free == np.eye(k, dtype=bool)).all():
        return False
    raise ArgumentError(
        "this fit holds some parameters (free=) other than all correlations; fit the model by "
        "mfx.lmer(), whose terms may be split: (1 | g) + (0 + x | g)."
    )
