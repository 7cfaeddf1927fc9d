"""The statsmodels engine: MixedLM, where MixedLM can express the model.

MixedLM knows one grouping of the rows, one correlated block of effects on it, and any number
of independent variance components inside it. A :class:`_Spelling` says a design in those
words, or why it cannot be said. MixedLM is always started at the profiled engine's optimum:
far from it its optimisers are known to fail, near it they need a step or none, and what it
then reports is a second, independent computation of the same likelihood.

This is the only file that imports statsmodels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.parametrization import canonical_signs, relative_factor
from mixedfx.design.build import Design
from mixedfx.design.random import Block
from mixedfx.errors import EngineRefusal, SearchError
from mixedfx.estimation.curvature import boundary_parameters
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.crossproducts import CrossProducts

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# MixedLM's Hessian holds matrices of rows by rows of a group: this many entries is 4 GB.
_MOST_ENTRIES = 5e8


@dataclass(frozen=True)
class _Spelling:
    """
    A design in MixedLM's words.

    Parameters
    ----------
    top : int or None
        Index of a block on the top grouping factor; None where no factor contains the
        others and all rows form one group.
    correlated : int or None
        The block that becomes ``exog_re``; the others become variance components, a
        component per column.
    """

    top: int | None
    correlated: int | None

    def components(self, design: Design) -> list[tuple[int, int]]:
        """Block and column of each variance component, in order."""
        return [
            (t, j)
            for t, block in enumerate(design.blocks)
            if t != self.correlated
            for j in range(len(block.effects))
        ]


@dataclass(frozen=True)
class StatsModels:
    """
    The engine that hands the model to statsmodels.

    Parameters
    ----------
    name : str
        For ``engine=``.
    """

    name: str = "statsmodels"

    def refusal(self, design: Design) -> str | None:
        """Say why MixedLM cannot express a design."""
        if not design.blocks:
            return None
        if design.dispersion is not None or design.sigma is not None:
            return "MixedLM has one residual variance, which it estimates"
        if design.weights is not None:
            return "MixedLM has no prior weights"
        if design.X.shape[1] == 0:
            return "MixedLM needs at least one fixed effect"
        spelled = _spell(design)
        if isinstance(spelled, str):
            return spelled
        rows, columns = largest_group(design)
        if rows * (rows + columns) > _MOST_ENTRIES:
            return (
                f"MixedLM would handle one group of {rows:,} rows and {columns:,} random-effect "
                f"columns with dense matrices of {8e-9 * rows * (rows + columns):.1f} GB"
            )
        return None

    def estimate(
        self,
        design: Design,
        crossprod: CrossProducts,
        *,
        reml: bool,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Fit by MixedLM, or by OLS or WLS where there are no random terms."""
        if not design.blocks:
            return _regress(design)
        reason = self.refusal(design)
        if reason is None and start is not None:
            edge = boundary_parameters(design, crossprod, start)
            if edge:
                reason = (
                    f"the optimum is singular ({', '.join(edge)}), where MixedLM cannot give "
                    "effects or standard errors"
                )
        if reason is not None:
            raise EngineRefusal(f"statsmodels cannot fit {design.formula}: {reason}.")
        spelling = _spell(design)
        assert isinstance(spelling, _Spelling)
        result = _fit(design, crossprod, spelling, reml, start)
        theta = _read_theta(design, crossprod, spelling, result)
        return OptimizerResult(
            theta=theta,
            engine=self.name,
            evaluations=0,
            converged=bool(result.converged),
            message="MixedLM, started at the profiled optimum",
            deviance=-2.0 * float(result.llf),
            raw=result,
        )


def _spell(design: Design) -> _Spelling | str:
    """Find the words for a design, or the reason why there are none."""
    blocks = design.blocks
    wide = [t for t, b in enumerate(blocks) if b.term.structure == "us" and b.values.shape[1] > 1]
    top = next((t for t, b in enumerate(blocks) if _contains_all(b, blocks)), None)
    for t in wide:
        if top is None or blocks[t].group != blocks[top].group:
            return (
                f"the correlated term {blocks[t].term} is not on a grouping factor that "
                "contains all the others"
            )
    if len(wide) > 1:
        return f"MixedLM has one correlated term, and the formula has {len(wide)}"
    if top is None:
        return _Spelling(None, None)
    on_top = [t for t, b in enumerate(blocks) if b.group == blocks[top].group]
    scalar = [t for t in on_top if blocks[t].values.shape[1] == 1]
    return _Spelling(top, wide[0] if wide else (scalar[0] if scalar else None))


def _contains_all(outer: Block, blocks: tuple[Block, ...]) -> bool:
    """Whether every level of every factor occurs in one level of ``outer`` only."""
    for inner in blocks:
        if inner.group == outer.group:
            continue
        pairs = inner.codes * len(outer.levels) + outer.codes
        if len(np.unique(pairs)) != len(inner.levels):
            return False
    return True


def top_level_codes(design: Design) -> npt.NDArray[np.intp]:
    """Group of each row as MixedLM would see it."""
    spelling = _spell(design)
    if isinstance(spelling, str) or spelling.top is None:
        return np.zeros(len(design.y), dtype=np.intp)
    return design.blocks[spelling.top].codes


def largest_group(design: Design) -> tuple[int, int]:
    """Size of the problem as MixedLM would see it."""
    codes = top_level_codes(design)
    sizes = np.bincount(codes)
    columns = np.zeros(len(sizes), dtype=int)
    for block in design.blocks:
        pairs = np.unique(codes * len(block.levels) + block.codes)
        present = np.bincount(pairs // len(block.levels), minlength=len(sizes))
        columns += len(block.effects) * present
    return int(sizes.max()), int(columns.max())


def _fit(
    design: Design, crossprod: CrossProducts, spelling: _Spelling, reml: bool, start: Vector | None
) -> Any:
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams, VCSpec

    codes = top_level_codes(design)
    if spelling.top is None:
        groups = np.full(len(codes), "all")
    else:
        groups = _sortable(design.blocks[spelling.top].levels.labels)[codes]
    order = {g: i for i, g in enumerate(sorted(set(groups.tolist())))}
    rows = [np.flatnonzero(groups == g) for g in order]
    components = spelling.components(design)
    spec = None
    if components:
        made = [_component(design.blocks[t], j, rows) for t, j in components]
        spec = VCSpec([n for n, _, _ in made], [c for _, c, _ in made], [m for _, _, m in made])
    exog_re = None
    if spelling.correlated is not None:
        block = design.blocks[spelling.correlated]
        exog_re = pd.DataFrame(np.array(block.values), columns=list(block.effects))
    params = None
    if start is not None:
        params = MixedLMParams.from_components(
            fe_params=np.zeros(design.X.shape[1]),
            **_components_at(crossprod, spelling, design, start),
        )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = MixedLM(
                pd.Series(np.array(design.y), name=design.formula.response),
                pd.DataFrame(np.array(design.X), columns=list(design.names)),
                groups,
                exog_re=exog_re,
                exog_vc=spec,
            )
            result = model.fit(start_params=params, reml=reml, method="bfgs")
            finite = np.isfinite(result.llf)
        except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
            raise SearchError(f"MixedLM failed: {type(error).__name__}: {error}") from error
    if not finite:
        raise SearchError("MixedLM failed: its log-likelihood is not finite.")
    return result


def _sortable(labels: pd.Index) -> npt.NDArray[Any]:
    """Labels as MixedLM needs them: plain values that sort; else their numbers."""
    if any(isinstance(label, tuple) for label in labels):
        return np.arange(len(labels))
    try:
        sorted(labels)
    except TypeError:
        return np.arange(len(labels))
    return np.asarray(labels)


def _component(block: Block, j: int, rows: list[Any]) -> tuple[str, list[Any], list[Any]]:
    """Name, column names and matrices of one variance component, group by group."""
    effect = block.effects[j]
    name = block.group if effect == "Intercept" else f"{block.group} {effect}"
    labels = block.levels.labels
    columns, matrices = [], []
    for at in rows:
        present, inside = np.unique(block.codes[at], return_inverse=True)
        matrix = np.zeros((len(at), len(present)))
        matrix[np.arange(len(at)), inside] = block.values[at, j]
        columns.append([f"{name}[{labels[i]}]" for i in present])
        matrices.append(matrix)
    return name, columns, matrices


def _components_at(
    crossprod: CrossProducts, spelling: _Spelling, design: Design, theta: Vector
) -> dict[str, Any]:
    lambdas = crossprod.parametrization.lambdas(theta)
    values = [lambdas[t][j, j] ** 2 for t, j in spelling.components(design)]
    cov = np.empty((0, 0))
    if spelling.correlated is not None:
        lam = lambdas[spelling.correlated]
        cov = lam @ lam.T
    return {"cov_re": cov, "vcomp": np.array(values)}


def _read_theta(
    design: Design, crossprod: CrossProducts, spelling: _Spelling, result: Any
) -> Vector:
    """Turn MixedLM's covariances into theta."""
    lambdas = [np.zeros((k, k)) for k in crossprod.parametrization.widths]
    if spelling.correlated is not None:
        lambdas[spelling.correlated] = relative_factor(np.asarray(result.cov_re) / result.scale)
    components = np.asarray(result.vcomp) / result.scale
    for (t, j), value in zip(spelling.components(design), components, strict=True):
        lambdas[t][j, j] = np.sqrt(max(value, 0.0))
    return canonical_signs(crossprod.parametrization, crossprod.parametrization.to_params(lambdas))


def _regress(design: Design) -> OptimizerResult:
    """Ordinary or weighted least squares, where the formula has no random terms."""
    from statsmodels.regression.linear_model import OLS, WLS

    y = pd.Series(np.array(design.y), index=design.index, name=design.formula.response)
    X = pd.DataFrame(np.array(design.X), index=design.index, columns=list(design.names))
    model = OLS(y, X) if design.weights is None else WLS(y, X, weights=design.weights)
    result = model.fit()
    return OptimizerResult(
        theta=np.zeros(0),
        engine="statsmodels",
        evaluations=0,
        converged=True,
        message="least squares",
        deviance=-2.0 * float(result.llf),
        raw=result,
        remarks=(
            "the formula has no random terms: this is "
            f"{'ordinary' if design.weights is None else 'weighted'} least squares.",
        ),
    )
