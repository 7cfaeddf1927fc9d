"""Size of the problem that a design is, and the engine that would take it, without a fit."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedfx.design.build import Design
from mixedfx.errors import MixedfxError
from mixedfx.estimation.dispatch import suits_mixedlm
from mixedfx.estimation.iterative import choose_solver
from mixedfx.estimation.unidentified import check_residual_identified
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.size import check_memory_of_solver
from mixedfx.linalg.available_memory import available_memory
from mixedfx.linalg.cholesky.analysis import elimination_order
from mixedfx.linalg.cholesky.block_matrix import BlockPattern
from mixedfx.linalg.iterative.solver import IterativeSolver
from mixedfx.linalg.solver import Solver

# Arrays of the fixed part, and of the dense block, at the peak of a fit, as measured.
_COPIES_OF_X, _COPIES_OF_BLOCK = 3, 4


def problem_size(design: Design, *, linear: bool) -> tuple[pd.DataFrame, list[str]]:
    """A row for each number that says how large a fit is, and why the fit would be refused."""
    spec, rows = design.spec, design.rows
    q, p = spec.n_random_effects, rows.X.shape[1]
    nonzeros = sum(rows.n * len(term.effect_names) for term in spec.random_terms)
    table: dict[str, Any] = {
        "rows": rows.n,
        "coefficients": p,
        "random effects": q,
        "nonzeros of Z": nonzeros,
    }
    refusals: list[str] = []
    block, solver = 0, None
    try:
        crossprod = choose_solver("auto", design, compute_crossproducts(design))
        pattern, solver = crossprod.ZtZ.pattern, crossprod.solver
        table["nonzeros of Z'Z"] = _nonzeros(pattern)
        block = sum(pattern.layout.size(f) for f in elimination_order(pattern)[1])
        check_memory_of_solver(solver, pattern, crossprod.groups)
        if linear:
            check_residual_identified(spec, GaussianLikelihood(crossprod, reml=True))
    except MixedfxError as error:
        refusals.append(str(error))
    iterative = isinstance(solver, IterativeSolver)
    n_bytes = 8.0 * (_COPIES_OF_X * rows.n * p + nonzeros + 2.0 * table.get("nonzeros of Z'Z", 0))
    n_bytes += 0.0 if iterative else 8.0 * _COPIES_OF_BLOCK * block**2
    table |= {"dense block": 0 if iterative else block, "memory (MB)": round(n_bytes / 1e6, 1)}
    table |= {"memory available (MB)": round(available_memory() / 1e6)}
    table["engine"] = _engine(design, solver, linear=linear)
    return pd.DataFrame({"size": list(table), "value": list(table.values())}), refusals


def _nonzeros(pattern: BlockPattern) -> int:
    """Numbers stored of one triangle of Z'Z."""
    layout = pattern.layout
    own = sum(layout.levels(f) * layout.width(f) ** 2 for f in layout.factors)
    return own + sum(
        layout.width(i) * layout.width(j) * len(p) for (i, j), p in pattern.pairs.items()
    )


def _engine(design: Design, solver: Solver | None, *, linear: bool) -> str:
    if not linear:
        return "Laplace's approximation"
    if not design.spec.random_terms:
        return "least squares"
    if isinstance(solver, IterativeSolver):
        return "iterative"
    return "profiled, then statsmodels" if suits_mixedlm(design) else "profiled"
