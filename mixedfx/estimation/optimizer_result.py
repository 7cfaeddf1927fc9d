"""What an engine is told, and what it tells: limits, theta, and a claim to be checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.errors import ArgumentError, MixedfxWarning

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Control:
    """
    How long, and how closely, to search.

    Parameters
    ----------
    tolerance : float
        Stop when one more step would lower the deviance by less than this. At 1e-10 a
        standard deviation is within about 1e-6 of its optimum, relatively.
    max_evaluations : int
        Give up after so many evaluations of the deviance with its gradient.

    Examples
    --------
    >>> Control(tolerance=1e-12)
    Control(tolerance=1e-12, max_evaluations=500)
    """

    tolerance: float = 1e-10
    max_evaluations: int = 500

    def __post_init__(self) -> None:
        """Refuse limits that would end no search, or end it before it begins."""
        for name, least in (("tolerance", 0.0), ("max_evaluations", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ArgumentError(f"{name}={value!r} must be a number of at least {least:g}.")


@dataclass(frozen=True)
class OptimizerResult:
    """
    What an engine found.

    Parameters
    ----------
    theta : ndarray of shape (m,)
        Covariance parameters, in lme4's order, signs rectified.
    engine : str
        Which engine found it.
    evaluations : int
        Evaluations of the deviance.
    converged : bool
        Whether the engine is satisfied.
    message : str
        Its reason, in words.
    deviance : float
        Its own claim of -2 log-likelihood (or the REML criterion) at ``theta``.
    trace : tuple of float
        Deviance after each evaluation, where the engine tells.
    slack : float
        For parameters on the boundary: the smallest rate at which the deviance would rise on
        leaving it; infinite if none is there. Negative says that it is no optimum.
    seconded : str or None
        Name of a second engine that ended at the same optimum.
    raw : object
        The engine's own result, such as statsmodels' ``MixedLMResults``.
    remarks : tuple of str
        What the user should know of how it went.
    """

    theta: Vector
    engine: str
    evaluations: int
    converged: bool
    message: str
    deviance: float
    trace: tuple[float, ...] = ()
    boundary_slope: float = np.inf
    confirmed_by: str | None = None
    raw: Any = field(default=None, repr=False)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())


@dataclass(frozen=True)
class Note:
    """
    Something about a fit that its user should know.

    Parameters
    ----------
    text : str
        A sentence.
    warning : type of warning or None
        How it is warned of; None for a remark that is only kept.
    """

    text: str
    warning: type[MixedfxWarning] | None = None
