"""Limits of an optimisation over theta, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.errors import ArgumentError
from mixedfx.estimation import mixedlm_results
from mixedfx.linalg.solver import Solver

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Control:
    """
    Limits of the optimisation over the covariance parameters.

    Parameters
    ----------
    tolerance : float
        Stop when one more step would lower the deviance by less than this. At 1e-10 a
        standard deviation is within about 1e-6 of its optimum, relatively.
    max_evaluations : int
        Largest number of evaluations of the deviance with its gradient.

    Raises
    ------
    ArgumentError
        If a limit is not a number, is negative, or allows no evaluation.

    Examples
    --------
    >>> Control(tolerance=1e-12)
    Control(tolerance=1e-12, max_evaluations=500)
    """

    tolerance: float = 1e-10
    max_evaluations: int = 500

    def __post_init__(self) -> None:
        """Refuse limits that are no numbers or allow no evaluation."""
        for name, least in (("tolerance", 0.0), ("max_evaluations", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ArgumentError(f"{name}={value!r} must be a number of at least {least:g}.")


@dataclass(frozen=True)
class OptimizerResult:
    """Theta as an engine estimated it, and how."""

    theta: Vector  # (m,) covariance parameters in lme4's order, signs canonical
    engine: str
    evaluations: int  # of the deviance
    converged: bool  # by the engine's own criterion
    message: str  # reason for stopping
    deviance: float  # -2 log-likelihood or REML criterion at theta, as the engine computed it
    trace: tuple[float, ...] = ()  # deviance at each evaluation, where the engine reports it
    boundary_slope: float = np.inf  # smallest eigenvalue of N' S N, see mixedfx.estimation.boundary
    confirmed_by: str | None = None  # second engine that reached the same optimum
    raw: Any = field(default=None, repr=False)  # engine's own result: MixedLMResults, EMIterates
    remarks: tuple[str, ...] = ()  # for the user, beyond convergence
    tolerance: float = 0.0  # what the search was to leave to gain
    limit_reached: bool = False  # whether the limit on evaluations ended the search
    # Whether the engine's criterion counts beside the conditions of an optimum: where it is
    # stricter than these.
    refuses: bool = False
    # the end point in the bases of the likelihood's cross-products; None: theta alone is known
    factors: tuple[npt.NDArray[np.float64], ...] | None = field(default=None, repr=False)
    # How the likelihood at the end is factorised; None: as it was at the start.
    solver: Solver | None = field(default=None, repr=False)
    monte_carlo: Any = None  # MonteCarloError of an engine that has one
    # HessianAtOptimum at ``factors``, or with the information of a large model; not kept
    derivatives: Any = field(default=None, repr=False, compare=False)
    solution: Any = field(default=None, repr=False, compare=False)  # Solution there; not kept

    def __post_init__(self) -> None:
        """Make the array read-only."""
        set_readonly(self.theta)

    @property
    def results_of_engine(self) -> Any:
        """The engine's own results; those of MixedLM are made when they are first read."""
        if isinstance(self.raw, mixedlm_results.MixedLMOptimum):
            return self.raw.results
        return self.raw
