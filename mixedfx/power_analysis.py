"""Power of a planned study, by simulation or from the expected moments: :func:`power`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.design.build import Design, build
from mixedfx.design.contrasts import fixed_terms
from mixedfx.design.extended import checked_counts, with_levels, with_rows
from mixedfx.errors import (
    ArgumentError,
    brief,
    check_choice,
    check_count,
    check_share,
    did_you_mean,
)
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.inference import wald
from mixedfx.inference.constraints import Constraints, linear_constraints
from mixedfx.inference.denominator_df import denominator_df, resolve_df_method
from mixedfx.inference.expected_power import ExpectedTests
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.hypothesis_basis import echelon_hypotheses
from mixedfx.inference.many_fits import FAILURES, ManyFits
from mixedfx.inference.simulation import simulate
from mixedfx.inference.variance_power import VarianceTest, variance_names, variance_test
from mixedfx.linalg.random_streams import spawn_generators
from mixedfx.refit import optimum_for_refits, refit
from mixedfx.results.results import Results

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_COVERAGE = 0.95  # of the intervals of a simulated power


@dataclass(frozen=True)
class PowerCurve:
    """
    Power by the size of a study.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each size: a column for each grouping factor that varies, ``rows`` per level if
        they vary, ``nobs power conf_low conf_high n_sim n_failed``. The interval is Clopper and
        Pearson's; by the exact method it is the power itself.
    term : str
        What is tested.
    alpha : float
        Level of the test.
    method : str
        ``"simulation"`` or ``"exact"``.
    """

    table: pd.DataFrame = field(repr=False)
    term: str
    alpha: float
    method: str

    @property
    def sizes(self) -> tuple[str, ...]:
        """Columns of the table that say the size."""
        return tuple(self.table.columns[: self.table.columns.get_loc("nobs")])

    def smallest(self, power: float = 0.8) -> pd.Series | None:
        """
        First size of the table, by number of rows, that reaches a power.

        Parameters
        ----------
        power : float
            Between 0 and 1.

        Returns
        -------
        pandas.Series or None
            Its row; None if no size reaches it.
        """
        check_share("power", power)
        reached = self.table[self.table["power"] >= power].sort_values("nobs", kind="stable")
        return reached.iloc[0] if len(reached) else None

    def plot(self, *, target: float | None = 0.8, ax: Any = None) -> Any:
        """
        Draw the power against the size, with its interval.

        Parameters
        ----------
        target : float, optional
            Power to be reached, drawn as a line; None for none.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
        """
        from mixedfx.plots.power import power_curve

        return power_curve(self, target=target, ax=ax)

    def __str__(self) -> str:
        """Text of the table."""
        how = "by simulation" if (self.table["n_sim"] > 0).any() else "from the expected moments"
        head = f"Power of the test of {self.term} at level {self.alpha:g}, {how}"
        return f"{head}\n\n{self.table.to_string(index=False, float_format='%.3f')}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.round(3).to_html(index=False)


def power(
    fit: Results,
    term: str,
    *,
    params: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    rows: int | Sequence[int] | None = None,
    method: Literal["simulation", "exact"] = "simulation",
    n_sim: int = 1000,
    rng: Any = None,
    alpha: float = 0.05,
    df_method: str = "auto",
) -> PowerCurve:
    """
    Estimate the power of a test in a study like that of a fit.

    Parameters
    ----------
    fit : Results
        Fit of a pilot, or of made-up rows: its design and its parameters are those of the study.
    term : str
        What is tested: a coefficient, ``"Days"``; a term of several, by an F test; hypotheses,
        ``"arm[T.b] = arm[T.c]"``; or a variance, ``"sd(Intercept | Subject)"`` or
        ``"(1 | Subject)"``, by the likelihood ratio as in ``fit.rlrt()`` or ``fit.ranova()``.
    params : mapping of str to float, optional
        Values of parameters instead of the estimates, by the names of ``fit.conf_int()``:
        ``{"Days": 5.0, "sd(Days | Subject)": 6.0, "sigma": 25.0}``. An effect estimated in a small
        pilot is a poor guess: state the smallest effect that matters.
    groups : mapping of str to list of int, optional
        Numbers of levels of grouping factors, ``{"Subject": [10, 20, 40]}``: copies of those of
        the pilot, in turn.
    rows : int or list of int, optional
        Numbers of rows in each level of the first factor of ``groups``, or of the formula.
    method : {"simulation", "exact"}
        Fits of simulated responses; or, of linear models, the noncentral t or F distribution with
        the expected standard errors and degrees of freedom, at once. The restricted likelihood
        ratio of the variance of the only random term, if that has one effect, is drawn without
        fits by either, with ``"exact"`` up to 100,000 times.
    n_sim : int
        Number of simulated responses for each size.
    rng : numpy.random.Generator or int, optional
        Source of randomness, or its seed.
    alpha : float
        Level of the test.
    df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
        Degrees of freedom of the tests of simulated responses.

    Returns
    -------
    PowerCurve
        ``.table``, ``.smallest(0.8)`` and ``.plot()``.

    Raises
    ------
    ArgumentError
        If there is no such coefficient, term or grouping factor, or the model has a residual model
        with parameters, whose rows cannot be copied.

    Notes
    -----
    A simulated response without estimates counts as one whose test does not reject, and is counted
    in ``n_failed``.

    References
    ----------
    .. [1] Green and MacLeod (2016), SIMR: an R package for power analysis of generalized linear
       mixed models by simulation, Methods Ecol. Evol. 7:493.
    .. [2] Helms (1992), Intentionally incomplete longitudinal designs, Stat. Med. 11:1889: the
       noncentral F distribution of mixed models.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> curve = mfx.power(
    ...     fit, "Days", params={"Days": 4.0}, groups={"Subject": [10, 20, 30]}, method="exact"
    ... )
    >>> curve.table[["Subject", "nobs", "power"]].round(3)
       Subject  nobs  power
    0       10   100  0.407
    1       20   200  0.735
    2       30   300  0.898
    """
    model = _checked(fit, alpha, method)
    n_sim = check_count("n_sim", n_sim, 1)
    df_method = resolve_df_method(model, df_method)
    test = _test(model, term)
    if method == "exact" and isinstance(test, VarianceTest):
        test.check_exact()
    sizes = list(_sizes(model, groups, rows))
    generators = spawn_generators(rng, len(sizes))
    table = []
    for (size, frame), generator in zip(sizes, generators, strict=True):
        study = _Study(model, _design(model, frame), frame, params, test, df_method)
        if method == "exact":
            row = study.exact(generator, alpha)
        else:
            row = _rejected(study.p_values(n_sim, generator), alpha)
        table.append({**size, "nobs": study.design.rows.n, **row})
    return PowerCurve(pd.DataFrame(table), str(term), alpha, method)


def _checked(fit: Any, alpha: float, method: str) -> FittedModel:
    if not isinstance(fit, Results):
        raise ArgumentError(f"power() takes a fit of mfx.lmer() or mfx.glmer(), not {brief(fit)}.")
    check_share("alpha", alpha)
    check_choice("method", method, ("simulation", "exact"))
    model = fit.model
    check_no_priors(model, "power()")
    if method == "exact" and not _is_plain(model):
        raise ArgumentError(
            "method='exact' is of linear models with one residual variance and unrelated levels; "
            "take method='simulation'."
        )
    return model


def _is_plain(model: FittedModel) -> bool:
    """Whether rows of the linear model can be copied and their covariance written out."""
    plain = all(term.is_plain for term in model.spec.random_terms)
    return plain and model.spec.residual.linear and model.spec.residual.equal_variances


def _test(model: FittedModel, term: Any) -> Constraints | VarianceTest:
    """Rows of a coefficient, a term or hypotheses; or the test of a variance."""
    names, spec = list(model.spec.column_names), model.spec
    if isinstance(term, str) and term not in names and "=" not in term:
        terms = {found.name: found for found in fixed_terms(spec.fixed_info)}
        if term not in terms:
            if of_variance := variance_test(model, term):
                return of_variance
            known = list(dict.fromkeys([*names, *terms, *variance_names(model)]))
            raise ArgumentError(
                f"term='{term}' is no coefficient, term or variance; these are "
                f"{', '.join(known)}. A hypothesis is written '{names[-1]} = 0'."
                f"{did_you_mean(term, known)}"
            )
        term = ", ".join(f"{names[j]} = 0" for j in range(*terms[term].columns.indices(len(names))))
    return echelon_hypotheses(model, linear_constraints(model, term))


def _sizes(
    model: FittedModel, groups: Mapping[str, Sequence[int]] | None, rows: Any
) -> Iterator[tuple[dict[str, int], pd.DataFrame | None]]:
    """Sizes of the study with their rows; None for those of the fit."""
    factors = list(model.formula.groups)
    if groups is None and rows is None:
        yield {}, None
        return
    if not isinstance(groups or {}, Mapping):
        raise ArgumentError(f"groups={brief(groups)} must map grouping factors to numbers.")
    frame, counts = model.rows.model_frame, {}
    for name, values in (groups or {}).items():
        if name not in factors or name not in frame:
            raise ArgumentError(
                f"groups='{name}' is no grouping factor that is a column; these are "
                f"{', '.join(f for f in factors if f in frame)}.{did_you_mean(name, factors)}"
            )
        counts[name] = checked_counts(f"groups['{name}']", values, least=2)
    of_rows = next(iter(counts), next((f for f in factors if f in frame), None))
    numbers = [0] if rows is None else checked_counts("rows", rows, least=1)  # 0: as they are
    if rows is not None and of_rows is None:
        raise ArgumentError("rows= is a number of rows in each level, and there is no factor.")
    _check_can_be_copied(model)
    for chosen in itertools.product(*counts.values(), numbers):
        found, size = frame, dict(zip(counts, chosen[:-1], strict=True))
        if chosen[-1]:
            found, size["rows"] = with_rows(found, str(of_rows), chosen[-1]), chosen[-1]
        for name, count in zip(counts, chosen[:-1], strict=True):
            found = with_levels(found, name, count, [f for f in factors if f in frame])
        yield size, found


def _check_can_be_copied(model: FittedModel) -> None:
    spec = model.spec
    if spec.residual.linear and not _is_plain(model):
        raise ArgumentError(
            "groups= and rows= copy rows, which is not defined for residual models with "
            "parameters and for related levels: leave them out, for the power of the fit's own "
            "design, or fit the model to rows of the planned study."
        )
    values = {"weights": model.prior_weights, "offset": model.rows.offset}
    columns = {"weights": spec.weights_column, "offset": spec.offset_column}
    for name, given in values.items():
        of_formula = name == "offset" and not spec.offset_is_argument
        if given is not None and columns[name] is None and not of_formula and spec.residual.linear:
            raise ArgumentError(f"give {name}= as a column's name to copy rows.")


def _design(model: FittedModel, frame: pd.DataFrame | None) -> Design:
    """Design of the study."""
    if frame is None:
        return model.original_design
    spec = model.spec
    columns = {"weights": spec.weights_column, "offset": spec.offset_column}
    design = build(spec.formula, frame, env=spec.env, family=spec.family, **columns)  # type: ignore[arg-type]
    return replace(design, spec=replace(design.spec, residual=spec.residual))


@dataclass(frozen=True)
class _Study:
    """One size of the study."""

    model: FittedModel
    design: Design
    frame: pd.DataFrame | None
    params: Mapping[str, Any] | None
    test: Constraints | VarianceTest
    df_method: str

    def exact(self, rng: np.random.Generator, alpha: float) -> dict[str, Any]:
        """Power from the expected moments, or of a variance from many draws."""
        if isinstance(self.test, VarianceTest):
            drawn = self.test.drawn_p_values(self.model, self.design, self.params, None, rng)
            return _rejected(drawn, alpha)
        values = parameter_values(self.model, self.params)
        value = ExpectedTests.of(self.design, values, reml=self.model.reml).power(self.test, alpha)
        limits = {"conf_low": value, "conf_high": value}
        return {"power": value, **limits, "n_sim": 0, "n_failed": 0}

    def p_values(self, n_sim: int, rng: np.random.Generator) -> Vector:
        """P-value of each simulated response; NaN where there are no estimates."""
        test, model = self.test, self.model
        if isinstance(test, VarianceTest) and test.is_alone:
            return test.drawn_p_values(model, self.design, self.params, n_sim, rng)
        drawn = simulate(model, n_sim, rng=rng, data=self.frame, params=self.params)
        Y = drawn.to_numpy(dtype=float)
        if isinstance(test, VarianceTest):
            return test.refitted_p_values(model, self.design, Y, rng)
        return self._p_values_of_coefficients(test, Y)

    def _p_values_of_coefficients(self, test: Constraints, Y: Matrix) -> Vector:
        spec = self.model.spec
        one = len(test.rows) == 1 and self.df_method != "kenward-roger"
        if one and spec.residual.linear and spec.residual.equal_variances:
            fits = ManyFits.of(self.design, Y, reml=self.model.reml, method=self.df_method)
            found = fits.estimates(test.rows)
            with np.errstate(all="ignore"):
                t = (found.estimate[0] - test.values[0]) / np.sqrt(found.variance[0])
            return wald.t_p_value(t, found.df[0])
        options: Any = {"engine": "profiled", "reml": self.model.reml, "control": Control()}
        template = self.model if self.frame is None else fit_design(self.design, **options)
        options["optimum"] = optimum_for_refits(template)
        return np.array([self._p_value(template, test, y, options) for y in Y.T])

    def _p_value(
        self, template: FittedModel, hypotheses: Constraints, y: Vector, options: Mapping[str, Any]
    ) -> float:
        try:
            fit = refit(template, y, **options)
            test = wald.f_test(fit, denominator_df(fit, self.df_method), hypotheses)
        except FAILURES:
            return np.nan
        return float(test["p_value"])


def _rejected(p_values: Vector, alpha: float) -> dict[str, Any]:
    """Share of p-values below a level, with its interval."""
    n_sim = len(p_values)
    rejected, failed = int((p_values < alpha).sum()), int(np.isnan(p_values).sum())
    low, high = _binomial_interval(rejected, n_sim)
    share = {"power": rejected / n_sim, "conf_low": low, "conf_high": high}
    return {**share, "n_sim": n_sim, "n_failed": failed}


def _binomial_interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's interval (1934, Biometrika 26:404)."""
    tail = (1.0 - _COVERAGE) / 2.0
    low, high = 0.0, 1.0
    if successes:
        low = float(special.betaincinv(successes, trials - successes + 1, tail))
    if successes < trials:
        high = float(special.betaincinv(successes + 1, trials - successes, 1.0 - tail))
    return low, high
