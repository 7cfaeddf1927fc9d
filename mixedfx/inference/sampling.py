"""A fit to draws from its posterior."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

from mixedfx.beliefs import resolve
from mixedfx.errors import ArgumentError, EngineRefusal, SamplingWarning
from mixedfx.fit import Fit
from mixedfx.posterior import draw
from mixedfx.threads import calm

_NEEDED = ("arviz_base", "arviz_stats", "emcee")


def sample(
    fit: Fit, *, draws: int = 1000, chains: int = 4, rng: Any = None, progress: bool = True
) -> Any:
    """
    Draw from the posterior of a fit.

    Parameters
    ----------
    fit : Fit
        With priors, or without: then they are flat.
    draws, chains : int
        How many draws of how many chains.
    rng : int, numpy.random.Generator or None
        Seed, or source of randomness.
    progress : bool
        Whether a sampler that takes a while shows a bar.

    Returns
    -------
    xarray.DataTree
        For ArviZ: ``posterior``, ``sample_stats``, ``posterior_predictive``, ``log_likelihood``,
        ``observed_data``.

    Raises
    ------
    ArgumentError
        If an argument is wrong, or the extra ``bayes`` is not installed.
    PriorError
        If flat priors leave the posterior without a finite total.
    EngineRefusal
        If the residual standard deviations have random effects.

    Warns
    -----
    SamplingWarning
        Names parameters whose chains differ, or whose effective draws are too few.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> sample(fit.fit, draws=500, rng=1)["posterior"].sizes["draw"]
    500
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ArgumentError(
            f"sample() needs {', '.join(missing)}: python -m pip install 'mixedfx[bayes]'."
        )
    design = fit.given
    if design.scale is not None and design.scale.block is not None:
        raise EngineRefusal(
            f"the random term in dispersion='{design.scale.formula}' cannot be sampled; use "
            "strata, such as '~ kind', or fit.bootstrap()."
        )
    beliefs = resolve(None, design) if fit.beliefs is None else fit.beliefs
    with calm(fit.cross.plan.tail_size):
        found = draw(design, beliefs, draws=draws, chains=chains, rng=rng, progress=progress)
        complaints = found.complaints()
    for text in complaints:
        warnings.warn(f"{text}: draw more, by draws=.", SamplingWarning, stacklevel=3)
    return found.tree
