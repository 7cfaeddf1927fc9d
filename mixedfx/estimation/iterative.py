"""Iterative engine: the profiled engine's search without a dense block, for large crossed factors.

Log-determinants are means over vectors of random signs (:mod:`mixedfx.linalg.iterative`), of which
more are taken until the Monte Carlo error of the deviance and of the estimates is small; where
that of the estimates is not, they are searched for again, from where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation import monte_carlo
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import Profiled
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.size import exact_operations
from mixedfx.linalg.cholesky.analysis import elimination_order
from mixedfx.linalg.iterative.solver import IterativeSolver

Vector = npt.NDArray[np.float64]

# Operations of an exact evaluation from which ``auto`` takes this engine: a dense block of 4,600
# columns. A constant, so that the engine of a model does not depend on the machine.
MANY_OPERATIONS = 1e11
# A step that would gain less moves the estimates by 0.0003 standard errors.
_LEAST_TOLERANCE = 1e-7
_MAX_PROBES = 512


@dataclass(frozen=True)
class Iterative:
    """Engine for crossed factors whose dense block is large."""

    name: str = "iterative"

    def refusal(self, design: Design) -> str | None:
        """Why a design has no block that could be left out, or not independent levels."""
        if len(design.spec.ngroups) < 2:
            return "it has fewer than two grouping factors, whose exact factorisation is cheap"
        if not all(term.is_plain for term in design.spec.random_terms):
            return "a term's effects are correlated between levels, or a row has several of them"
        return None

    def estimate(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        *,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Estimate theta, with as many vectors of signs as it needs."""
        control = replace(control, tolerance=max(control.tolerance, _LEAST_TOLERANCE))
        result = Profiled(name=self.name).estimate(design, likelihood, control=control, start=start)
        error = monte_carlo.monte_carlo_error(likelihood, result)
        while result.converged and not error.is_small and error.probes < _MAX_PROBES:
            likelihood = with_probes(likelihood, min(error.wanted_probes, _MAX_PROBES))
            if not error.finds_parameters:
                result = self._search_again(result, design, likelihood, control)
            error = monte_carlo.monte_carlo_error(likelihood, result)
        assert result.factors is not None
        remarks = result.remarks if error.remark is None else (*result.remarks, error.remark)
        return replace(
            result,
            deviance=likelihood.at_factors(result.factors).deviance,
            solver=likelihood.crossprod.solver,
            monte_carlo=error,
            remarks=remarks,
        )

    def _search_again(
        self,
        result: OptimizerResult,
        design: Design,
        likelihood: GaussianLikelihood,
        control: Control,
    ) -> OptimizerResult:
        """Search from the end of the last search, with more vectors."""
        again = Profiled(name=self.name, several_starts=False).estimate(
            design, likelihood, control=control, start=result.theta
        )
        evaluations, trace = result.evaluations + again.evaluations, result.trace + again.trace
        return replace(again, evaluations=evaluations, trace=trace)


def with_probes(likelihood: GaussianLikelihood, probes: int) -> GaussianLikelihood:
    """Likelihood of more vectors of signs, the fewer among them."""
    solver = likelihood.crossprod.solver
    assert isinstance(solver, IterativeSolver)
    return likelihood.with_solver(replace(solver, probes=probes))


def choose_solver(engine: str, design: Design, crossprod: CrossProducts) -> CrossProducts:
    """Cross-products with the solver that an engine needs; ``auto`` decides by operations."""
    iterative = Iterative()
    if engine == iterative.name:
        reason = iterative.refusal(design)
        if reason is None and not elimination_order(crossprod.ZtZ.pattern)[1]:
            reason = "its grouping factors are nested: nothing is left to iterate on"
        if reason is not None:
            raise EngineRefusal(
                f"iterative cannot fit {design.spec.formula}: {reason}. Use engine='profiled'."
            )
        return replace(crossprod, solver=IterativeSolver())
    if (
        engine == "auto"
        and iterative.refusal(design) is None
        and exact_operations(crossprod.ZtZ.pattern) > MANY_OPERATIONS
    ):
        return replace(crossprod, solver=IterativeSolver())
    return crossprod
