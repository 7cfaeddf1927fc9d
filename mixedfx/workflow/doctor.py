"""What is weak in a fit: :func:`doctor`."""

from __future__ import annotations

from typing import Any

from mixedfx.errors import ArgumentError, brief
from mixedfx.inference.doctor.diagnosis import Diagnosis
from mixedfx.results.results import Results


def doctor(
    fit: Results,
    *,
    conf_level: float = 0.95,
    order: Any = None,
    rng: Any = 0,
    max_seconds: float = 60.0,
) -> Diagnosis:
    """
    Say what is weak in a fit and what to do about it, by fitting it again.

    Parameters
    ----------
    fit : Results
        Fit of :func:`mixedfx.lmer` or :func:`mixedfx.glmer`.
    conf_level, order, rng, max_seconds
        As of :meth:`mixedfx.Results.doctor`, which documents all of it.

    Returns
    -------
    Diagnosis
        ``weaknesses``, ``recommended`` and tables; ``fit.plot.doctor(found)`` draws it.

    Raises
    ------
    ArgumentError
        If it is no fit.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> fit = mfx.lmer("Reaction ~ Days + (Days || Subject)", sleep)
    >>> mfx.doctor(fit).recommended
    'Reaction ~ Days + (Days || Subject)'
    """
    if not isinstance(fit, Results):
        raise ArgumentError(f"doctor() takes a fit of mfx.lmer() or mfx.glmer(), not {brief(fit)}.")
    return fit.doctor(conf_level=conf_level, order=order, rng=rng, max_seconds=max_seconds)
