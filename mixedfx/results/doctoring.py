"""What is weak in a fit and what to do, tried: ``fit.doctor()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.inference.doctor import doctor
from mixedfx.results.base import ResultsBase
from mixedfx.streamed import doctoring

if TYPE_CHECKING:
    from mixedfx.inference.doctor.diagnosis import Diagnosis


class DoctorMixin(ResultsBase):
    """Refits that say what is weak."""

    @explains_arguments(METHOD_ARGUMENTS)
    def doctor(
        self,
        *,
        conf_level: float = 0.95,
        order: Any = None,
        rng: Any = 0,
        max_seconds: float = 60.0,
        data: Any = None,
    ) -> Diagnosis:
        """
        Say what is weak in the fit and what to do about it, by fitting it again.

        Parameters
        ----------
        conf_level : float
            Level of the conclusions that are compared: whether p is below ``1 - conf_level``.
        order : str or array, optional
            Order of the rows within subjects, or the first grouping factor, such as a time: a
            column of the formula, or a value for each row. By default a covariate that orders them.
        rng : numpy.random.Generator or int
            Source of randomness of the checks, or its seed.
        max_seconds : float
            Time in which no further refit is begun that would not end in it; what is left out is
            said. A fit of n rows takes about twenty times the time of the fit.
        data : source of rows, optional
            Of a fit whose rows were read in chunks: the source that it read, which is read again
            for each model that sums of its rows do not have.

        Returns
        -------
        Diagnosis
            ``weaknesses`` with calls to copy, ``recommended``, ``table``, ``refits``, ``random``,
            ``checks`` and ``influence``; ``fit.plot.doctor(found)`` draws it.

        Raises
        ------
        RowsNotInMemory
            If the fit has no rows and did not read them in chunks.
        ArgumentError
            If the fit has priors, or ``data`` is given and its rows are in memory.

        Notes
        -----
        ================== ==================================================================
        search             other starts, another engine, centred and scaled covariates: the
                           same log-likelihood and the same coefficients
        random effects     without correlations, without each effect: AIC and the likelihood
                           ratio of the random structure, exact where it is one variance
        checks             those of :meth:`check`, effects within and between groups, and random
                           slopes that are missing, adjusted together; the advice of each that
                           fails is fitted, and its AIC compared
        influence          levels by Cook's distance (flagged above 4 / levels), the change of a
                           coefficient (2 / sqrt(levels) standard errors) and of theta; the two
                           that move a coefficient most are left out
        collinearity       generalised variance inflation above 10
        conclusions        that change in models whose AIC is at most 2 above that of the fit
        ================== ==================================================================

        A simpler random structure is recommended where its AIC is lower and p > 0.2 (0.05 at a
        singular fit); the last term of a grouping factor stays unless its variance is zero. Tests
        of fixed effects play no part in it. Of dispersion models perturbed starts, and of these and
        generalised models another engine, are not defined and left out. Of rows in chunks models of
        fewer random effects need no row, and what was not tried without ``data`` is listed.

        References
        ----------
        .. [1] Matuschek, Kliegl, Vasishth, Baayen and Bates (2017), J. Mem. Lang. 94:305.
        .. [2] Mundlak (1978), Econometrica 46:69.
        .. [3] Nieuwenhuis, te Grotenhuis and Pelzer (2012), influence.ME, The R Journal 4:38.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> herds = mfx.datasets.load("Dyestuff2")
        >>> import warnings; warnings.simplefilter("ignore", mfx.errors.SingularFitWarning)
        >>> found = mfx.lmer("Yield ~ 1 + (1 | Batch)", herds).doctor()
        >>> found.recommended
        'Yield ~ 1'
        """
        how = doctor.Examination(
            conf_level, order, rng, max_seconds, doctoring.models_of(self.model, data)
        )
        return doctor.examine(self.model, how)
