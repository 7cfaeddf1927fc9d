"""Priors matched by name to the parameters of a model, and checked for their kind.

A parameter has the prior of its own name, else that of its class (``"fixed"``, ``"sd"``,
``"corr"``, ``"dispersion"``), else a flat one. Intercepts take no prior from their class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.errors import PriorError, brief, did_you_mean
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.likelihood.constrained import update_with_normal_prior
from mixedfx.likelihood.pls import Solution
from mixedfx.priors import distributions

if TYPE_CHECKING:
    from mixedfx.priors.distributions import LKJ, Flat, Normal, SdPrior

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Kinds of parameters that can be named together.
_CLASSES = ("fixed", "sd", "corr", "dispersion")


class Priors:
    """Priors of a model; of this class itself none, and its estimates maximise the likelihood."""

    specified: ClassVar[bool] = False
    by_name: Mapping[str, Any] = MappingProxyType({})  # the priors as specified

    @property
    def header(self) -> tuple[tuple[str, str], ...]:
        """Lines of the summary's header."""
        return ()

    @property
    def fixes_zero_sd(self) -> bool:
        """Whether theta, or a standard deviation at zero, is constant."""
        return False

    @property
    def advice(self) -> str:
        """Where more of the posterior than its mode is had, for a message."""
        return ""

    def update(self, solution: Solution) -> Solution:
        """Posterior of the coefficients, given the solution without priors."""
        return solution

    def derivatives(self, of_likelihood: Callable[[], Any]) -> Any:
        """Gradient and Hessian of the criterion at its optimum, given those of the deviance."""
        return of_likelihood()

    def constant_columns(self, names: Sequence[str]) -> list[str]:
        """Fixed columns, out of their names, whose coefficients are constant."""
        return []

    def for_sampling(self, spec: ModelSpec) -> PriorSpecification:
        """Prior of every parameter of a posterior: flat without priors."""
        return match_priors(None, spec)


NO_PRIORS = Priors()


@dataclass(frozen=True)
class PriorSpecification(Priors):
    """The prior of every parameter of a model; made by :func:`match_priors`."""

    specified = True

    coef_mean: Vector  # (p,) fixed effects
    coef_sd: Vector  # (p,) infinite for a flat prior, zero for a constant
    sd_priors: tuple[tuple[SdPrior, ...], ...]  # per term, per effect
    lkj_eta: tuple[float, ...]  # per term
    sigma: SdPrior
    dispersion: tuple[Normal | Flat, ...]  # coefficients of the log residual sd
    theta: Vector | None  # (m,) relative covariance parameters, where they are constant
    # The same of the random terms of dispersion=, of the log standard deviation
    scale_sds: tuple[tuple[SdPrior, ...], ...] = ()
    scale_eta: tuple[float, ...] = ()
    by_name: Mapping[str, Any] = field(default_factory=dict)
    # (d,) and (d, d): of -2 log posterior density at its mode, by all free parameters
    gradient: Vector = field(default_factory=lambda: np.zeros(0), repr=False)
    hessian: Matrix = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def header(self) -> tuple[tuple[str, str], ...]:
        """The priors by name."""
        priors = "; ".join(f"{name} ~ {prior}" for name, prior in self.by_name.items())
        return (
            ("Priors", f"{priors}; others flat" if priors else "all flat"),
            ("Criterion", "mode of the posterior; fit.sample() draws from it"),
        )

    @property
    def advice(self) -> str:
        """Draws show the posterior."""
        return "fit.sample() draws from its posterior"

    def update(self, solution: Solution) -> Solution:
        """Posterior under the normal priors of the coefficients."""
        return update_with_normal_prior(solution, self.coef_mean, self.coef_sd)

    def derivatives(self, of_likelihood: Callable[[], Any]) -> PriorSpecification:
        """Derivatives of -2 log posterior density."""
        return self

    def constant_columns(self, names: Sequence[str]) -> list[str]:
        """Columns with a prior standard deviation of zero."""
        return [n for n, sd in zip(names, self.coef_sd, strict=True) if sd == 0.0]

    def for_sampling(self, spec: ModelSpec) -> PriorSpecification:
        """These priors."""
        return self

    @property
    def fixes_zero_sd(self) -> bool:
        """Whether theta, or a standard deviation at zero, is constant."""
        constants = [
            p.value
            for term in self.sd_priors
            for p in term
            if isinstance(p, distributions.Constant)
        ]
        return self.theta is not None or 0.0 in constants


@dataclass(frozen=True)
class FamilyPriors(PriorSpecification):
    """
    Priors of a generalised model, whose fit is at the joint mode of all parameters.

    Nothing is integrated out but the random effects: the densities are of the coefficients, the
    standard deviations and correlations, and the family's parameters themselves.
    """

    family: tuple[SdPrior, ...] = ()  # of the family's parameters

    @property
    def header(self) -> tuple[tuple[str, str], ...]:
        """The priors by name."""
        (priors, _) = super().header
        return (priors, ("Criterion", "joint mode of the posterior of all parameters"))

    @property
    def advice(self) -> str:
        """The curvature at the mode is what there is."""
        return "fit.bse and fit.conf_int() are of its curvature at the mode"

    def update(self, solution: Solution) -> Solution:
        """The solution as it is: coefficients are searched for."""
        return solution


# What the priors of a model are, by the kind of its reported coefficients.
_SPECIFICATIONS: dict[str, type[PriorSpecification]] = {
    "dispersion": PriorSpecification,
    "family": FamilyPriors,
}


def match_priors(priors: Mapping[str, Any] | None, spec: ModelSpec) -> PriorSpecification:
    """Assign a prior to every parameter of a model."""
    by_name = _as_dict(priors)
    _check_structures(spec)
    sd_names, corr_names = _covariance_names(spec)
    kinds = _parameter_kinds(spec, sd_names, corr_names)
    classes = [k for k in _CLASSES if k in kinds.values() and k not in kinds]
    kinds |= _scale_kinds(spec)
    for name, prior in by_name.items():
        _check_kind(name, prior, kinds, classes)
    theta = _constant_theta(by_name, spec)
    _check_consistent(by_name, spec, kinds, theta)

    def prior_of(name: str, kind: str) -> Any:
        return by_name.get(name, by_name.get(kind if kind in classes else "", distributions.Flat()))

    def coef_prior(column: str, name: str, kind: str) -> Any:
        return (
            by_name.get(name, distributions.Flat())
            if column == "Intercept"
            else prior_of(name, kind)
        )

    fixed = [coef_prior(n, n, "fixed") for n in spec.X_names]
    residual = spec.residual
    kind = residual.coefficient_kind
    of_residual: dict[str, Any] = {"dispersion": (), **_of_scale(by_name, spec)}
    of_residual[kind] = tuple(
        coef_prior(n, residual.full_name(n), kind) for n in residual.coefficient_names
    )
    return _SPECIFICATIONS[kind](
        coef_mean=np.array(
            [p.mean if isinstance(p, distributions.Normal) else 0.0 for p in fixed], dtype=float
        ),
        coef_sd=np.array(
            [p.sd if isinstance(p, distributions.Normal) else np.inf for p in fixed], dtype=float
        ),
        sd_priors=tuple(tuple(prior_of(n, "sd") for n in names) for names in sd_names),
        lkj_eta=tuple(_eta(prior_of(n, "corr")) if n else 1.0 for n in corr_names),
        sigma=by_name.get("sigma", distributions.Flat()),
        theta=theta,
        by_name=by_name,
        **of_residual,
    )


def _of_scale(by_name: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """Priors of the random terms of ``dispersion=``, by their own names alone."""
    sd_names, corr_names = _scale_names(spec)
    flat = distributions.Flat()
    return {
        "scale_sds": tuple(tuple(by_name.get(n, flat) for n in names) for names in sd_names),
        "scale_eta": tuple(_eta(by_name.get(n, flat)) for n in corr_names),
    }


def _check_structures(spec: ModelSpec) -> None:
    for term in spec.random_terms:
        if not STRUCTURES[term.formula_term.structure].linear:
            raise PriorError(
                f"priors and posterior draws take unstructured and diagonal random terms, and the "
                f"formula has {term.formula_term}; write (x | g) or (x || g)."
            )


def _as_dict(priors: Mapping[str, Any] | None) -> dict[str, Any]:
    if priors is None:
        return {}
    if not isinstance(priors, Mapping):
        raise PriorError(
            f"priors={brief(priors)} must be a dict from parameters to priors, such as "
            "{'sd': mfx.priors.HalfNormal(10)}."
        )
    return dict(priors)


def _covariance_names(spec: ModelSpec) -> tuple[list[list[str]], list[str]]:
    """Names of each term's standard deviations, and of its correlations (empty without any)."""
    terms = spec.random_terms
    sds = [[f"sd({e} | {term.group})" for e in term.effect_names] for term in terms]
    return _distinct_names(terms, sds, [f"corr({term.group})" for term in terms])


def _scale_names(spec: ModelSpec) -> tuple[list[list[str]], list[str]]:
    """The same of the random terms of ``dispersion=``."""
    terms = spec.residual.scale_terms
    sds = [
        [f"sd(dispersion | {t.group})"]
        if t.effect_names == ("Intercept",)
        else [f"sd(dispersion: {e} | {t.group})" for e in t.effect_names]
        for t in terms
    ]
    return _distinct_names(terms, sds, [f"corr(dispersion: {t.group})" for t in terms])


def _distinct_names(
    terms: Sequence[RandomTermSpec], sds: list[list[str]], corrs: list[str]
) -> tuple[list[list[str]], list[str]]:
    """These names, with the term where several have one; no correlation where a term has none."""
    corrs = [
        name if STRUCTURES[t.formula_term.structure].correlated and len(t.effect_names) > 1 else ""
        for t, name in zip(terms, corrs, strict=True)
    ]
    counts = Counter([n for names in sds for n in names] + corrs)

    def distinct(name: str, term: RandomTermSpec) -> str:
        return name if counts[name] == 1 or not name else f"{name} in {term.formula_term}"

    return (
        [[distinct(n, term) for n in names] for names, term in zip(sds, terms, strict=True)],
        [distinct(n, term) for n, term in zip(corrs, terms, strict=True)],
    )


def _scale_kinds(spec: ModelSpec) -> dict[str, str]:
    """Kinds of these; the log standard deviation has another unit, and they are of no class."""
    sds, corrs = _scale_names(spec)
    kinds = {name: "sd" for names in sds for name in names}
    return kinds | {name: "corr" for name in corrs if name}


def _parameter_kinds(
    spec: ModelSpec, sd_names: list[list[str]], corr_names: list[str]
) -> dict[str, str]:
    """Kind of every parameter, by name; of equal names the later kind is kept."""
    residual = spec.residual
    kinds = dict.fromkeys(spec.X_names, "fixed")
    kinds |= {name: "sd" for names in sd_names for name in names}
    kinds |= {name: "corr" for name in corr_names if name}
    kind = residual.coefficient_kind
    kinds |= {residual.full_name(name): kind for name in residual.coefficient_names}
    scales = zip(spec.family.param_names, spec.family.param_scales, strict=True)
    kinds |= {name: "threshold" for name, scale in scales if scale != "log"}
    if residual.estimates_sigma and "sigma" not in kinds:
        kinds["sigma"] = "sigma"
    if spec.random_terms and "theta" not in kinds:
        kinds["theta"] = "theta"
    return kinds


def _check_kind(name: object, prior: Any, kinds: Mapping[str, str], classes: list[str]) -> None:
    """Raise for an unknown parameter, or a prior that is not allowed for its kind."""
    available = [*kinds, *classes]
    if not isinstance(name, str) or name not in available:
        hint = did_you_mean(name, available) if isinstance(name, str) else ""
        listed = ", ".join(map(repr, available))
        raise PriorError(
            f"priors name {name!r}, which is no parameter of this model; it has {listed}.{hint}"
        )
    kind = kinds.get(name, name)
    allowed = distributions.ALLOWED[kind]
    if not isinstance(prior, allowed):
        choices = ", ".join(c.__name__ for c in allowed)
        seen = prior if not isinstance(prior, type) else f"the class {prior.__name__}"
        hint = ""
        if isinstance(prior, distributions.Constant) and kind in ("fixed", "dispersion"):
            hint = f" Normal({prior.value}, 0) makes it a constant." if kind == "fixed" else ""
        raise PriorError(f"the prior of {name!r} is {seen!r}; it can be one of {choices}.{hint}")
    if kind == "dispersion" and isinstance(prior, distributions.Normal) and prior.sd == 0.0:
        raise PriorError(
            f"the prior of {name!r} is {prior!r}; its sd must be positive: leave a column whose "
            "coefficient is known to be zero out of dispersion=."
        )
    if kind in ("sd", "sigma", "family") and isinstance(prior, distributions.Constant):
        value = np.asarray(prior.value, dtype=float)
        least = "not negative" if kind == "sd" else "positive"
        if value.ndim or value < 0.0 or (kind != "sd" and value == 0.0):
            raise PriorError(
                f"the prior of {name!r} is {prior!r}; its value must be one number, {least}."
            )


def _check_consistent(
    by_name: Mapping[str, Any], spec: ModelSpec, kinds: Mapping[str, str], theta: Vector | None
) -> None:
    """Raise for constants that contradict the dispersion model, or another prior."""
    residual = spec.residual
    if (
        residual.n_params
        and kinds.get("sigma") == "sigma"
        and isinstance(by_name.get("sigma"), distributions.Constant)
    ):
        raise PriorError(
            f"with {residual.keyword}= the residual standard deviation is estimated, so sigma "
            "cannot be a constant; give its coefficients priors, by the name "
            f"{residual.full_name('...')}."
        )
    if theta is None:
        return
    if named := [n for n in by_name if kinds.get(n, n) in ("sd", "corr")]:
        raise PriorError(
            f"'theta' is given as a constant, so {named[0]!r} has no prior of its own; leave one "
            "of them out."
        )


def _eta(prior: LKJ | Flat) -> float:
    return prior.eta if isinstance(prior, distributions.LKJ) else 1.0


def _constant_theta(by_name: Mapping[str, Any], spec: ModelSpec) -> Vector | None:
    if not isinstance(by_name.get("theta"), distributions.Constant) or "theta" in spec.X_names:
        return None
    theta = np.array(by_name["theta"].value, dtype=float)
    size = parametrization_of(spec).size
    if theta.shape != (size,):
        raise PriorError(
            f"the prior of 'theta' has a value of shape {theta.shape}, but theta has {size} "
            "parameters; see fit.theta."
        )
    return theta
