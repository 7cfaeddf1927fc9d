"""Results of :func:`mixedfx.lmer`, under statsmodels' names, and lme4's beyond them.

:class:`Results` holds a :class:`~mixedfx.estimation.fitted_model.FittedModel`. Its methods come
from mixins, one for each topic, and delegate to functions of a fitted model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from patsy import EvalEnvironment

from mixedfx._deprecation import renamed_attribute
from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments, missing_attribute
from mixedfx.design.stream import streamed_rows
from mixedfx.errors import ArgumentError, brief, check_choice, check_flag
from mixedfx.estimation.engines import ENGINES, EngineName
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.notes import warn_of
from mixedfx.estimation.optimizer_result import Control
from mixedfx.formatting import Summary
from mixedfx.formula import updating as formula_updating
from mixedfx.formula.terms import Formula
from mixedfx.inference.denominator_df import DfMethod, resolve_df_method
from mixedfx.results import plot_accessor
from mixedfx.results.broom import BroomMixin
from mixedfx.results.checking import CheckingMixin
from mixedfx.results.description import DescriptionMixin
from mixedfx.results.diagnostics import DiagnosticsMixin
from mixedfx.results.distribution import DistributionMixin
from mixedfx.results.doctoring import DoctorMixin
from mixedfx.results.estimates import EstimatesMixin
from mixedfx.results.further_predictors import PredictorsMixin
from mixedfx.results.hypothesis_tests import HypothesisTestsMixin
from mixedfx.results.intervals import IntervalsMixin
from mixedfx.results.keeping import KeepingMixin
from mixedfx.results.marginal_effects import MarginalEffectsMixin
from mixedfx.results.model_selection import ModelSelectionMixin
from mixedfx.results.prediction_results import PredictionMixin
from mixedfx.results.report import ReportMixin
from mixedfx.results.robust import RobustMixin
from mixedfx.results.simulation import SimulationMixin
from mixedfx.results.summary import criterion, summarize
from mixedfx.results.validation import ValidationMixin
from mixedfx.results.variance_tests import VarianceTestsMixin
from mixedfx.streamed import merged_updating, refitting, updating

if TYPE_CHECKING:
    from mixedfx.results.plot_accessor import PlotAccessor


@dataclass(frozen=True, repr=False)
class Results(
    EstimatesMixin,
    DistributionMixin,
    PredictorsMixin,
    HypothesisTestsMixin,
    ModelSelectionMixin,
    MarginalEffectsMixin,
    IntervalsMixin,
    SimulationMixin,
    DiagnosticsMixin,
    BroomMixin,
    CheckingMixin,
    DoctorMixin,
    DescriptionMixin,
    KeepingMixin,
    RobustMixin,
    PredictionMixin,
    VarianceTestsMixin,
    ValidationMixin,
    ReportMixin,
):
    """
    Results of :func:`mixedfx.lmer`; immutable.

    Parameters
    ----------
    model : FittedModel
        Formula, design, cross-products and solution.

    Notes
    -----
    Arguments that several methods share:

    ``df_method``
        Denominator degrees of freedom of tests and intervals: ``"auto"``, Satterthwaite's of
        linear models and normal of generalised ones; ``"satterthwaite"``, as lmerTest;
        ``"kenward-roger"``, as pbkrtest, with its adjusted covariance matrix, for REML fits;
        ``"residual"``, rows less fixed effects; ``"normal"``, infinite: z and chi-squared tests,
        the only choice of generalised models.
    ``conf_level``
        Coverage of intervals, strictly between 0 and 1.
    ``parm``
        Parameters by name: a fixed effect such as ``"Days"``, ``"sd(Days | Subject)"``,
        ``"corr(Intercept, Days | Subject)"``, ``"sigma"``.
    ``rng``
        A ``numpy.random.Generator``, a seed, or None for a fresh seed.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
    >>> fit.params.round(3)
    Intercept    251.405
    Days          10.467
    Name: estimate, dtype: float64
    >>> fit.varcorr[["group", "effect", "sdcor"]].round(2)
          group     effect  sdcor
    0   Subject  Intercept  24.74
    1   Subject       Days   5.92
    2   Subject  Intercept   0.07
    3  Residual        NaN  25.59
    """

    model: FittedModel

    fit = renamed_attribute("Results", "fit", "model")

    @property
    def plot(self) -> PlotAccessor:
        """Plots of the fit, such as ``fit.plot.caterpillar()``; they need matplotlib."""
        return plot_accessor.PlotAccessor(self.model)

    @explains_arguments(METHOD_ARGUMENTS)
    def summary(self, *, df_method: DfMethod = "auto") -> Summary:
        """
        Summarize the fit in tables, to print or to show in a notebook.

        Parameters
        ----------
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the tests; with priors they are normal.

        Returns
        -------
        Summary
            ``str()`` lays it out in 80 columns.
        """
        method = resolve_df_method(self.model, df_method)
        if self.model.priors.specified:
            method = "normal"
        return summarize(self.model, self._denominator_df(method), method)

    @explains_arguments(METHOD_ARGUMENTS)
    def refit(
        self,
        y: Any,
        *,
        data: Any = None,
        engine: EngineName = "profiled",
        control: Control | None = None,
    ) -> Self:
        """
        Fit the same model to another response.

        Parameters
        ----------
        y : array or Series of shape (nobs,), or str
            A value for each row that this fit used; a Series is matched by its index. Or the name
            of a column of ``data``; two of them where the formula has ``cbind`` or ``prop``.
        data : DataFrame or source of rows, optional
            Where that column is. A generalised fit whose rows were read in chunks reads the source
            again for a column or a Series; values in the order of its rows need none.
        engine : {"profiled", "auto", "statsmodels", "em", "iterative"}
            Engine that finds the optimum; the default is the fastest.
        control : Control, optional
            Tolerance and limit of the optimiser.

        Returns
        -------
        Results
            Design, cross-products of it and symbolic factorisation are those of this fit.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> again = fit.refit(2 * fit.fittedvalues + 2 * fit.resid)
        >>> round(again.sigma / fit.sigma, 6)
        2.0
        """
        if isinstance(self.model.rows, streamed_rows.StreamedRows):
            again = refitting.refit_from_file(self.model, y, data, _control(control))
            return type(self)(again)
        from mixedfx.refit import refit

        again = refit(
            self.model, y, engine=engine, reml=self.reml, control=_control(control), data=data
        )
        return type(self)(again)

    @explains_arguments(METHOD_ARGUMENTS)
    def update(
        self,
        formula: str | Formula,
        *,
        data: Any = None,
        reml: bool | None = None,
        engine: EngineName = "auto",
        control: Control | None = None,
    ) -> Self:
        """
        Fit a changed formula to the rows of this fit, as R's ``update``.

        Weights, residual model, family and relationships are those of this fit.

        Parameters
        ----------
        formula : str or Formula
            The change: ``.`` is what stood on that side. ``"~ . + age"`` adds a term,
            ``"~ . - (Days | Subject) + (1 | Subject)"`` exchanges random terms, ``"log(.) ~ ."``
            changes the response. Without a dot on the right it is a formula of its own.
        data : DataFrame or source of rows, optional
            Where further columns are, in rows with the labels of those that this fit used. Where
            these were read in chunks, or equal ones merged, it is their source, which is read
            again.
        reml : bool, optional
            REML or maximum likelihood; by default as this fit.
        engine : {"auto", "statsmodels", "profiled", "em", "iterative"}
            Engine that finds the optimum.
        control : Control, optional
            Tolerance and limit of the optimiser.

        Returns
        -------
        Results
            Rows without a value of a new term are left out, with a note.

        Raises
        ------
        FormulaError
            If the change is no formula, or takes away a random term that there is not.
        MissingColumnError
            If a new column is neither in the fit nor in ``data``.

        See Also
        --------
        mixedfx.Results.refit : The same formula, another response.
        mixedfx.Results.drop1, mixedfx.Results.step : Terms left out one by one.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
        >>> curved = fit.update("~ . + I(Days**2)", reml=False)
        >>> str(curved.formula)
        'Reaction ~ Days + I(Days ** 2) + (Days | Subject)'
        >>> str(fit.update("log(.) ~ . - (Days | Subject) + (1 | Subject)").formula)
        'log(Reaction) ~ Days + (1 | Subject)'
        """
        from mixedfx.rebuilding import Criterion, updated

        if reml is not None:
            check_flag("reml", reml, ": REML or maximum likelihood")
        check_choice("engine", engine, ENGINES)
        how = Criterion(
            reml=self.reml if reml is None else reml,
            engine=engine,
            control=_control(control),
            env=EvalEnvironment.capture(2),
        )
        change = updated
        if isinstance(self.model.rows, streamed_rows.StreamedRows):
            change = updating.updated_from_source
        elif merged_updating.is_of_source(self.model, data):
            change = merged_updating.updated_from_merged_source
        changed = change(
            self.model, formula_updating.update_formula(self.formula, formula), data, how
        )
        warn_of(changed.notes)
        return type(self)(changed)

    def __getattr__(self, name: str) -> Any:
        """Explain names that a fit does not have; names that it has are found without this."""
        if hasattr(type(self), name):  # a property that raised: its own error
            return object.__getattribute__(self, name)
        raise missing_attribute(self, name)

    def __copy__(self) -> Self:
        """Return the fit itself, which is immutable."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the fit itself, which is immutable."""
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[FittedModel]]:
        """Pickle the model; functions of its formula by reference, what follows from it not."""
        return type(self), (self.model,)

    def __repr__(self) -> str:
        """Name the model, its criterion and the engine."""
        at = "mode of the posterior" if self.model.priors.specified else criterion(self.model)
        return f"<mixedfx.Results: {self.formula}; {at}, {self.engine} engine>"

    def __str__(self) -> str:
        """Print the summary."""
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _control(control: Control | None) -> Control:
    """The argument of that name, or its default."""
    if control is not None and not isinstance(control, Control):
        raise ArgumentError(f"control={brief(control)} must be a mixedfx.Control.")
    return control or Control()
