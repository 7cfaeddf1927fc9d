"""A design to a fit: which search it needs, and what the search's end implies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx import engines
from mixedfx.beliefs import Beliefs
from mixedfx.crossprod import CrossProducts, cross
from mixedfx.design import Design
from mixedfx.engines.dispersion import search_dispersion
from mixedfx.engines.location_scale import search_location_scale
from mixedfx.errors import EngineRefusal
from mixedfx.fit import Control, Fit, assemble
from mixedfx.posterior.mode import find_mode
from mixedfx.threads import calm

Vector = npt.NDArray[np.float64]


def fit_design(
    design: Design,
    *,
    engine: str,
    reml: bool,
    control: Control,
    start: Vector | None = None,
    reduced: CrossProducts | None = None,
    beliefs: Beliefs | None = None,
) -> Fit:
    """
    Search, and compute what the search's end implies.

    Parameters
    ----------
    design : Design
        The data as arrays.
    engine : {"auto", "statsmodels", "profiled", "em"}
        What finds theta.
    reml : bool
        Which criterion.
    control : Control
        When to stop.
    start : ndarray of shape (m,), optional
        Where to begin.
    reduced : CrossProducts, optional
        Of the design, where they are known already.
    beliefs : Beliefs, optional
        Priors; the fit is then at the posterior's mode.

    Returns
    -------
    Fit
        Checked: the engine's claim is the criterion's.

    Raises
    ------
    EngineError
        If the engine cannot fit it, or two computations disagree.
    """
    if beliefs is not None:
        return _fit_mode(design, beliefs, engine=engine, control=control)
    if design.scale is not None:
        return _fit_dispersion(design, engine=engine, reml=reml, control=control)
    known = cross(design) if reduced is None else reduced
    with calm(known.plan.tail_size):
        search = engines.search(engine, design, known, reml=reml, control=control, start=start)
        return assemble(design.formula, design, known, search, reml=reml)


def _fit_dispersion(design: Design, *, engine: str, reml: bool, control: Control) -> Fit:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(
            f"engine='{engine}' knows one residual variance; with dispersion= use "
            "engine='profiled'."
        )
    with calm(_columns(design)):
        assert design.scale is not None
        search_scale = search_dispersion if design.scale.block is None else search_location_scale
        search, weighed, found = search_scale(design, reml=reml, control=control)
        reduced = cross(weighed)
        return assemble(design.formula, weighed, reduced, search, reml=reml, dispersion=found)


def _fit_mode(design: Design, beliefs: Beliefs, *, engine: str, control: Control) -> Fit:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(f"engine='{engine}' knows no priors; use engine='profiled'.")
    if design.scale is not None and design.scale.block is not None:
        raise EngineRefusal(
            f"priors= with the random term in dispersion='{design.scale.formula}' are not "
            "supported; leave one of the two out."
        )
    with calm(_columns(design)):
        found = find_mode(design, beliefs, control)
        return assemble(
            design.formula,
            found.design,
            cross(found.design),
            found.search,
            reml=True,
            dispersion=found.dispersion,
            beliefs=found.beliefs,
        )


def _columns(design: Design) -> int:
    return sum(len(b.levels) * b.values.shape[1] for b in design.blocks)
