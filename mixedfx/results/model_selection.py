"""Terms left out one at a time, and backward elimination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import pandas as pd

from mixedfx._escaping import html_block
from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx._warnings import warn_caller
from mixedfx.errors import ArgumentError, SelectionWarning, check_flag, check_share, name_list
from mixedfx.inference import drop1 as dropping
from mixedfx.inference import stepwise
from mixedfx.inference.denominator_df import DfMethod, denominator_df, resolve_df_method
from mixedfx.results.base import ResultsBase
from mixedfx.results.frames import FrameName, OtherFrame, converted
from mixedfx.streamed import family_summaries


@dataclass(frozen=True, repr=False)
class StepResults:
    """
    Steps of a backward elimination, and the model that is left.

    Parameters
    ----------
    random : pandas.DataFrame
        Tests of random effects as of ``fit.ranova()``, after a column ``eliminated``: the number of
        the step that took the effect out, with its test at that step; 0 of those that stayed.
    fixed : pandas.DataFrame
        The same of the fixed part, as of ``fit.drop1()``.
    fit : Results
        Fit of the model that is left, whose notes say that it was selected.
    """

    random: pd.DataFrame
    fixed: pd.DataFrame
    fit: Any = field(compare=False)

    def __repr__(self) -> str:
        """Both tables, and the formula."""
        parts = [
            f"{title}, backward elimination:\n{table.to_string(float_format='%.4g')}"
            for title, table in (("Random effects", self.random), ("Fixed effects", self.fixed))
            if len(table)
        ]
        return "\n\n".join([*parts, f"Model: {self.fit.formula}"])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        tables = [t.to_html(border=0) for t in (self.random, self.fixed) if len(t)]
        return html_block("".join(tables) + f"<p>{self.fit.formula}</p>")


class ModelSelectionMixin(ResultsBase):
    """Tests of terms that are left out."""

    @overload
    def drop1(
        self,
        test: Literal["auto", "F", "chisq"] = ...,
        *,
        df_method: DfMethod = ...,
        to: Literal["pandas"] = ...,
    ) -> pd.DataFrame: ...
    @overload
    def drop1(
        self,
        test: Literal["auto", "F", "chisq"] = ...,
        *,
        df_method: DfMethod = ...,
        to: OtherFrame,
    ) -> Any: ...
    @explains_arguments(METHOD_ARGUMENTS)
    def drop1(
        self,
        test: Literal["auto", "F", "chisq"] = "auto",
        *,
        df_method: DfMethod = "auto",
        to: FrameName = "pandas",
    ) -> Any:
        """
        Test each term of the fixed part that can be left out, one at a time.

        These are the terms that no other term contains: of ``a * b`` the interaction alone.

        Parameters
        ----------
        test : {"auto", "F", "chisq"}
            F tests, as of R's lmerTest; or likelihood ratios of maximum likelihood fits without
            the term, as of lme4. ``"auto"``: F tests of REML fits and of least squares,
            likelihood ratios of maximum likelihood fits and of generalised models.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Denominator degrees of freedom of the F tests.
        to : {"pandas", "polars", "pyarrow"}
            Library of the table.

        Returns
        -------
        pandas.DataFrame
            Indexed by term: of F tests the columns of :meth:`anova`, of likelihood ratios ``npar
            llf aic chisq df p_value`` after a row ``<none>`` of the model itself.

        Raises
        ------
        ArgumentError
            If ``test="F"`` and the model is generalised, or a likelihood is asked for and the fit
            has priors.

        References
        ----------
        .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13).

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
        >>> fit.drop1()[["num_df", "den_df", "F", "p_value"]].round(3)
                num_df  den_df       F  p_value
        term
        recipe     2.0    42.0   0.249    0.781
        temp       1.0   224.0  94.976    0.000
        """
        test_name = dropping.resolve_test(self.model, test)
        resolve_df_method(self.model, df_method)
        if test_name == "chisq" and df_method not in ("auto", "normal"):
            raise ArgumentError(
                f"df_method='{df_method}' is of F tests: write test='F', or leave it out."
            )
        ddf = self._denominator_df("normal" if test_name == "chisq" else df_method)
        return converted(dropping.drop1(self.model, ddf, test_name), to)

    @explains_arguments(METHOD_ARGUMENTS)
    def step(
        self,
        *,
        alpha_random: float = 0.1,
        alpha_fixed: float = 0.05,
        reduce_random: bool = True,
        reduce_fixed: bool = True,
        keep: str | Sequence[str] = (),
        df_method: DfMethod = "auto",
    ) -> StepResults:
        """
        Take out random effects, then terms of the fixed part, one at a time, by their p-values.

        Backward elimination as of R's lmerTest: the effect with the largest p-value of
        :meth:`ranova` above ``alpha_random``, until there is none; then the term with the largest
        p-value of :meth:`drop1` above ``alpha_fixed``.

        Parameters
        ----------
        alpha_random, alpha_fixed : float
            Levels of the tests.
        reduce_random, reduce_fixed : bool
            Whether to take out random effects, and terms of the fixed part.
        keep : str or list of str
            What stays whatever its test, by the names of the tables: ``"Days"``, ``"(1 | item)"``.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Denominator degrees of freedom of the F tests.

        Returns
        -------
        StepResults
            With ``random``, ``fixed`` and ``fit``.

        Warns
        -----
        SelectionWarning
            Always: p-values and intervals of the model that is left are those of a model chosen
            before the data were seen. After a selection by the same data they are too optimistic:
            p-values are too small, intervals too narrow, and coefficients too large. Report the
            full model, test on other data, or average (:func:`mixedfx.model_avg`).

        References
        ----------
        .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13).
        .. [2] Harrell (2015), Regression Modeling Strategies, second edition, section 4.3.

        Examples
        --------
        >>> import warnings, mixedfx as mfx
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", mfx.errors.SelectionWarning)
        ...     steps = fit.step()
        >>> steps.fixed[["eliminated", "F", "p_value"]].round(3)
                     eliminated       F  p_value
        term
        recipe:temp           1   0.042    0.959
        recipe                2   0.249    0.781
        temp                  0  94.976    0.000
        >>> str(steps.fit.formula)
        'angle ~ temp + (1 | recipe:replicate)'
        """
        for name, level in (("alpha_random", alpha_random), ("alpha_fixed", alpha_fixed)):
            check_share(name, level)
        check_flag("reduce_random", reduce_random)
        check_flag("reduce_fixed", reduce_fixed)
        method = resolve_df_method(self.model, df_method)
        selection = stepwise.Selection(
            alpha_random if reduce_random else None,
            alpha_fixed if reduce_fixed else None,
            frozenset(name_list("keep", keep)),
            "auto",
            lambda fit: denominator_df(fit, method),
            lambda fit: family_summaries.completed(fit),
        )
        found = stepwise.backward_elimination(self.model, selection)
        warn_caller(found.fit.notes[-1].text, SelectionWarning)
        return StepResults(found.random, found.fixed, type(self)(found.fit))  # type: ignore[call-arg]
