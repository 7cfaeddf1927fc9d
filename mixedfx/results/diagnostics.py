"""Convergence of a fit, variance explained, shrinkage, influence and collinearity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.convergence import ConvergenceDiagnostics
from mixedfx.estimation.fitted_model import check_no_priors
from mixedfx.inference import approximation as approximations
from mixedfx.inference import heritability, shrinkage, variance_explained
from mixedfx.results import tables
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.approximation import Approximation
    from mixedfx.inference.variance_explained import VarianceShares


class DiagnosticsMixin(ResultsBase):
    """Convergence, and how well the model describes the data."""

    @property
    def engine(self) -> str:
        """Name of the engine whose optimum this is."""
        return self.model.optimizer_result.engine

    @property
    def converged(self) -> bool:
        """Whether the optimiser ended at an optimum."""
        return self.model.optimizer_result.converged

    @property
    def is_singular(self) -> bool:
        """Whether a variance is zero or a correlation one, as lme4's ``isSingular``."""
        return bool(
            boundary_parameters(self.model.spec, self.model.crossprod, self.model.solution.theta)
        )

    @property
    def convergence(self) -> ConvergenceDiagnostics:
        """Conditions of an optimum: gradient, Hessian, boundary, and whether engines agree."""
        return self.model.convergence

    @cached_property
    def certificate(self) -> ConvergenceDiagnostics:
        """:attr:`convergence`; of a generalised model with :meth:`approximation`, when read."""
        return approximations.certificate(self.model)

    def approximation(self, *, draws: int = 100, rng: Any = 0) -> Approximation:
        """
        Estimate the error of the approximated likelihood of a generalised model.

        Of rows in a file it reads that many times, eleven times or so for each draw.

        Parameters
        ----------
        draws : int
            Number of draws of importance sampling, where there are several grouping factors.
        rng : numpy.random.Generator or int
            Source of randomness, or its seed.

        Returns
        -------
        Approximation
            Error of the log-likelihood, and how far each estimate would move, in standard errors.

        Raises
        ------
        ArgumentError
            If the model is linear, whose likelihood is exact.

        References
        ----------
        .. [1] Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4:12.
        .. [2] Geweke (1989), Econometrica 57:1317.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> data = mfx.datasets.load("appcrash").head(200)
        >>> fit = mfx.glmer("y > 1.5 ~ 1 + (1 | app)", data)
        >>> fit.approximation().method
        'quadrature with 25 nodes'
        """
        return approximations.approximation(self.model, draws=draws, rng=rng)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the fit: dropped rows and columns, singular covariances, warnings given."""
        return tuple(note.text for note in self.model.notes)

    @cached_property
    def statsmodels(self) -> Any:
        """
        The statsmodels result itself: ``MixedLMResults``, or OLS or GLM without random terms.

        Fitted when first read, from this optimum, if another engine found it. Its standard errors
        come from the joint information of all parameters, ours and lme4's from that of the
        fixed effects given theta; in unbalanced designs they differ by a fraction of a percent.
        GLM's are by the expected information given the family's parameter, ours by the observed.
        Its ``predict(data)`` takes a table of the formula's columns; an offset is not in it.

        Raises
        ------
        EngineRefusal
            If MixedLM cannot express the model, or it is generalised with random effects, of
            which statsmodels has no maximum likelihood fit; says why.
        ArgumentError
            If the fit has priors.
        """
        check_no_priors(self.model, "statsmodels")
        found = self.model.optimizer_result
        if found.engine == "statsmodels" and found.raw is not None:
            return found.results_of_engine
        fit = self.model
        return fit.residual.statsmodels_result(fit.design, fit.likelihood, fit.solution.theta)

    # ---------------------------------------------------------------- variance explained

    @property
    def icc(self) -> pd.Series:
        """
        Intraclass correlations: shares of the variance not explained by the fixed part.

        One for each group, and ``total``. With random slopes a group's variance is its mean over
        the rows. Of a generalised model the rest is the variance of an observation on the scale of
        the linear predictor, by the default of :meth:`variance_explained`.
        """
        return variance_explained.variance_explained(self.model).icc

    def heritability(self) -> pd.DataFrame:
        """
        Heritability: share of each term with a relationship matrix, with its standard error.

        It is :attr:`icc` of the grouping factor, on the scale of the matrix (and of the link).

        Returns
        -------
        pandas.DataFrame
            ``estimate`` and ``std_error`` (delta method; NaN on the boundary) of each factor.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> A = mfx.Relationship.from_pedigree(sleep.Subject.unique(), [None] * 18, [None] * 18)
        >>> fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, relmat={"Subject": A})
        >>> fit.heritability().round(2)
                 estimate  std_error
        group
        Subject      0.59       0.09
        """
        return heritability.heritability(self.model)

    @property
    def r2(self) -> pd.Series:
        """
        Nakagawa's R squared: ``marginal`` of the fixed part, ``conditional`` with the random one.

        With random slopes a group's variance is its mean over the rows (Johnson 2014). Of a
        generalised model by the default of :meth:`variance_explained`, which is that of R's
        performance; NaN of a cauchit link, whose latent response has no variance.
        """
        return variance_explained.variance_explained(self.model).r2

    def variance_explained(
        self,
        method: Literal["residual", "theoretical", "delta", "lognormal", "trigamma"] | None = None,
    ) -> VarianceShares:
        """
        Divide the variance between the fixed part, the groups and the observations.

        Parameters
        ----------
        method : {"theoretical", "delta", "lognormal", "trigamma"}, optional
            Variance of an observation of a generalised model on the scale of the linear predictor:
            of the latent response of a probability (``pi**2 / 3`` for a logit), by the delta
            method, or for a log link by two more approximations. By default the latent one where
            there is one, else ``"lognormal"`` for a log link, else ``"delta"``. Of a linear model
            it is the residual variance.

        Returns
        -------
        VarianceShares
            ``fixed``, ``groups`` and ``residual``, and the shares ``icc`` and ``r2``.

        Raises
        ------
        ArgumentError
            If the family and its link do not have the method; lists theirs.

        Notes
        -----
        But for the latent variance the mean at which an observation is looked at comes from the
        model without predictors, which is fitted for it, at the mean offset: ``exp(b0 + v / 2)``
        for a log link with the intercept b0 and the variance v of its random effects, as in R's
        MuMIn. An observation is one trial of a binomial response.

        With ``zero_inflation=`` or ``dispersion=`` the shares are those of the conditional part's
        linear predictor, and an observation has the variance V of the response, its zeros and the
        dispersion of each row included, and the mean M: ``V / (dM / d eta)**2`` by the delta
        method, ``log(1 + V / (dM / d eta)**2)`` by default for a log link: the approximations of
        [1]_ with the response's own mean and variance. R's insight has another formula for zero
        parts, which divides by the squared mean before zeros are added: its numbers differ.

        References
        ----------
        .. [1] Nakagawa, Johnson and Schielzeth (2017), J. R. Soc. Interface 14:20170213.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> crash = mfx.datasets.load("appcrash")
        >>> fit = mfx.glmer("crashes ~ version + (1 | device)", crash, family="poisson")
        >>> fit.variance_explained("trigamma").method
        'trigamma'
        """
        return variance_explained.variance_explained(self.model, method)

    # ---------------------------------------------------------------- levels and rows

    def pooling(self, group: str | None = None) -> pd.DataFrame:
        """
        Compare each level's estimate without, with partial and with complete pooling.

        Parameters
        ----------
        group : str, optional
            A grouping factor; by default the first of the formula.

        Returns
        -------
        pandas.DataFrame
            Indexed by level, and by effect if there are several: ``n`` rows; ``unpooled``, from
            the level's rows alone, given the coefficients and the effects of all other groups;
            ``pooled``, the fixed effect; ``partial``, the model's estimate; ``weight`` of the
            unpooled one in it; ``cond_sd``, the conditional standard deviation, which includes
            the uncertainty of the other effects.

        Notes
        -----
        For a random intercept ``partial = weight * unpooled + (1 - weight) * pooled``, with
        ``weight = s**2 / (s**2 + sigma**2 / n)``. After :func:`~mixedfx.glmer` all columns are on
        the scale of the linear predictor; ``unpooled`` is by maximum likelihood from the level's
        rows, infinite where these are separated (all successes, or all counts zero), and
        ``weight`` is that of the working linear model at the conditional modes.

        References
        ----------
        .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
           Models, equation 12.1.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.pooling("Batch").round(2).head(2)
               n  unpooled  pooled  partial  weight  cond_sd
        Batch
        A      5    1505.0  1527.5  1509.89    0.78    19.59
        B      5    1528.0  1527.5  1527.89    0.78    19.59
        """
        groups = self.model.formula.groups
        return shrinkage.pooling(self.model, group if group is not None else next(iter(groups), ""))

    def influence(
        self,
        of: str = "obs",
        *,
        method: Literal["one_step", "refit"] = "one_step",
        data: Any = None,
    ) -> pd.DataFrame:
        """
        Measure the influence of single rows, or of the levels of a group.

        Parameters
        ----------
        of : str
            ``"obs"`` for rows, or a grouping factor.
        method : {"one_step", "refit"}
            For levels: one Newton step from the optimum, or a whole fit without each.
        data : source of rows, optional
            Of a linear fit whose rows were read in chunks: the same source, which is read once more
            for the levels. Rows of a generalised fit in chunks are in a file.

        Returns
        -------
        pandas.DataFrame
            For rows ``hat resid std_resid cooks_distance``. For levels ``nobs``,
            ``cooks_distance`` and the change of each estimate on leaving the level out.

        Notes
        -----
        After :func:`~mixedfx.glmer` rows have leverages of the working linear model at the modes,
        given the dispersion of each (with ``zero_inflation=`` there is none), and Pearson
        residuals, as Cook's distances of a GLM; steps are of the marginal likelihood of the other
        rows, by its exact gradient. Refits hold residual parameters at their estimates.

        Raises
        ------
        ArgumentError
            If ``of`` is neither; lists the groups.

        References
        ----------
        .. [1] Demidenko and Stukel (2005), Influence analysis for linear mixed-effects models,
           Stat. Med. 24:893.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.influence("Subject")["Days"].round(2).head(2)
        Subject
        308   -0.66
        309    0.48
        Name: Days, dtype: float64
        """
        return tables.influence(self.model, of, method, data)

    # ---------------------------------------------------------------- collinearity and rank

    def vif(self) -> pd.DataFrame:
        """
        Compute variance inflation factors of the fixed terms.

        Returns
        -------
        pandas.DataFrame
            Indexed by term: ``vif`` (generalised for several columns), ``df``, ``scaled``.

        References
        ----------
        .. [1] Fox and Monette (1992), J. Am. Stat. Assoc. 87:178.
        """
        return variance_explained.vif(self.model)

    def rank_pca(self) -> dict[str, pd.DataFrame]:
        """
        Compute the principal components of each group's random effects, as lme4's ``rePCA``.

        Returns
        -------
        dict of str to pandas.DataFrame
            By group, a row per principal component: ``sd``, ``variance`` (share), and
            ``cumulative``.

        References
        ----------
        .. [1] Bates, Kliegl, Vasishth and Baayen (2015), arXiv:1506.04967.
        """
        return variance_explained.rank_pca(self.model)
