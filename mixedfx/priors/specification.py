"""Priors by name to the parameters of a design, each with the kind of prior that suits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.errors import PriorError, did_you_mean
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.priors.distributions import (
    LKJ,
    Constant,
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfStudentT,
    Normal,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

Deviation = HalfNormal | HalfStudentT | Exponential | Gamma | Flat | Constant
_OF_DEVIATIONS = (HalfNormal, HalfStudentT, Exponential, Gamma, Flat, Constant)
_SUITABLE: dict[str, tuple[type, ...]] = {
    "fixed": (Normal, Flat),
    "sd": _OF_DEVIATIONS,
    "sigma": _OF_DEVIATIONS,
    "corr": (LKJ, Flat),
    "dispersion": (Normal, Flat),
    "theta": (Constant,),
}


_CLASSES = ("fixed", "sd", "corr", "dispersion")


@dataclass(frozen=True)
class PriorSpecification:
    """
    The prior of every parameter of a design; made by :func:`match_priors`.

    Parameters
    ----------
    mean, sd : ndarray of shape (p,)
        Of the fixed effects; an infinite ``sd`` is a flat prior, zero a constant.
    deviations : tuple of tuple of prior
        For each random term, of each effect's standard deviation.
    shapes : tuple of float
        For each random term, the LKJ prior's ``eta`` of its correlations.
    sigma : prior
        Of the residual standard deviation.
    scale : tuple of Normal or Flat
        Of the coefficients of the log residual standard deviation.
    theta : ndarray of shape (m,) or None
        The relative covariance parameters, where they are known.
    known : bool
        Whether the residual standard deviations were given.
    given : mapping of str to prior
        The priors as they were given, by name.
    gradient : ndarray of shape (d,)
        Of minus twice the log posterior density at its mode, by all free parameters.
    hessian : ndarray of shape (d, d)
        Second derivatives there.
    """

    coef_mean: Vector
    coef_sd: Vector
    sd_priors: tuple[tuple[Deviation, ...], ...]
    lkj_eta: tuple[float, ...]
    sigma: Deviation
    dispersion: tuple[Normal | Flat, ...]
    theta: Vector | None
    known_residual_sd: bool
    by_name: Mapping[str, Any] = field(default_factory=dict)
    gradient: Vector = field(default_factory=lambda: np.zeros(0), repr=False)
    hessian: Matrix = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def fixes_zero_sd(self) -> bool:
        """Whether a standard deviation is known to be zero."""
        held = [p.value for priors in self.sd_priors for p in priors if isinstance(p, Constant)]
        return self.theta is not None or 0.0 in held


def match_priors(priors: Mapping[str, Any] | None, design: Design) -> PriorSpecification:
    """Give every parameter of a design its prior."""
    given = _checked(priors)
    sds, corrs = _names(design)
    scale = () if design.dispersion is None else design.dispersion.D_names
    kinds = dict.fromkeys(design.X_names, "fixed")
    kinds |= {name: "sd" for names in sds for name in names}
    kinds |= {name: "corr" for name in corrs if name}
    kinds |= {f"dispersion({name})": "dispersion" for name in scale}
    if design.sigma is None and "sigma" not in kinds:
        kinds["sigma"] = "sigma"
    if design.random_terms and "theta" not in kinds:
        kinds["theta"] = "theta"
    classes = [k for k in _CLASSES if k in kinds.values() and k not in kinds]
    for name, prior in given.items():
        _check_suits(name, prior, kinds, classes)

    def of(name: str, kind: str) -> Any:
        return given.get(name, given.get(kind if kind in classes else "", Flat()))

    def but_intercept(column: str, name: str, kind: str) -> Any:
        return given.get(name, Flat()) if column == "Intercept" else of(name, kind)

    fixed = [but_intercept(n, n, "fixed") for n in design.X_names]
    theta = _theta(given, design)
    if scale and isinstance(given.get("sigma"), Constant):
        raise PriorError(
            "with dispersion= the residual standard deviation is estimated, so sigma cannot be a "
            "constant; give its coefficients priors, by the name dispersion(...)."
        )
    if theta is not None and (named := [n for n in given if kinds.get(n, n) in ("sd", "corr")]):
        raise PriorError(
            f"'theta' is given as a constant, so {named[0]!r} has no prior of its own; leave one "
            "of them out."
        )
    return PriorSpecification(
        coef_mean=np.array([p.mean if isinstance(p, Normal) else 0.0 for p in fixed], dtype=float),
        coef_sd=np.array([p.sd if isinstance(p, Normal) else np.inf for p in fixed], dtype=float),
        sd_priors=tuple(tuple(of(n, "sd") for n in names) for names in sds),
        lkj_eta=tuple(_shape(of(n, "corr")) if n else 1.0 for n in corrs),
        sigma=given.get("sigma", Flat()),
        dispersion=tuple(but_intercept(n, f"dispersion({n})", "dispersion") for n in scale),
        theta=theta,
        known_residual_sd=design.sigma is not None,
        by_name=given,
    )


def _checked(priors: Mapping[str, Any] | None) -> dict[str, Any]:
    if priors is None:
        return {}
    if not isinstance(priors, Mapping):
        raise PriorError(
            f"priors={priors!r} must be a dict from parameters to priors, such as "
            "{'sd': mfx.priors.HalfNormal(10)}."
        )
    return dict(priors)


def _names(design: Design) -> tuple[list[list[str]], list[str]]:
    """Names of the standard deviations of each term, and of its correlations, if it has any."""
    sds = [[f"sd({e} | {b.group})" for e in b.effect_names] for b in design.random_terms]
    corrs = [
        f"corr({b.group})" if b.formula_term.structure == "us" and len(b.effect_names) > 1 else ""
        for b in design.random_terms
    ]
    counts = Counter([n for names in sds for n in names] + corrs)

    def distinct(name: str, term: object) -> str:
        return name if counts[name] == 1 or not name else f"{name} in {term}"

    terms = [b.formula_term for b in design.random_terms]
    return (
        [[distinct(n, term) for n in names] for names, term in zip(sds, terms, strict=True)],
        [distinct(n, term) for n, term in zip(corrs, terms, strict=True)],
    )


def _check_suits(name: object, prior: Any, kinds: Mapping[str, str], classes: list[str]) -> None:
    known = [*kinds, *classes]
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        listed = ", ".join(map(repr, known))
        raise PriorError(
            f"priors name {name!r}, which is no parameter of this model; it has {listed}.{hint}"
        )
    kind = kinds.get(name, name)
    if not isinstance(prior, _SUITABLE[kind]):
        choices = ", ".join(c.__name__ for c in _SUITABLE[kind])
        shown = prior if not isinstance(prior, type) else f"the class {prior.__name__}"
        hint = ""
        if isinstance(prior, Constant) and kind in ("fixed", "dispersion"):
            hint = f" Normal({prior.value}, 0) makes it a constant." if kind == "fixed" else ""
        raise PriorError(f"the prior of {name!r} is {shown!r}; it can be one of {choices}.{hint}")
    if kind == "dispersion" and isinstance(prior, Normal) and prior.sd == 0.0:
        raise PriorError(
            f"the prior of {name!r} is {prior!r}; its sd must be positive: leave a column whose "
            "coefficient is known to be zero out of dispersion=."
        )
    if kind in ("sd", "sigma") and isinstance(prior, Constant):
        value = np.asarray(prior.value, dtype=float)
        least = "positive" if kind == "sigma" else "not negative"
        if value.ndim or value < 0.0 or (kind == "sigma" and value == 0.0):
            raise PriorError(
                f"the prior of {name!r} is {prior!r}; its value must be one number, {least}."
            )


def _shape(prior: LKJ | Flat) -> float:
    return prior.eta if isinstance(prior, LKJ) else 1.0


def _theta(given: Mapping[str, Any], design: Design) -> Vector | None:
    if not isinstance(given.get("theta"), Constant) or "theta" in design.X_names:
        return None
    theta = np.array(given["theta"].value, dtype=float)
    size = parametrization_of(design).size
    if theta.shape != (size,):
        raise PriorError(
            f"the prior of 'theta' has a value of shape {theta.shape}, but theta has {size} "
            "parameters; see fit.theta."
        )
    return theta
