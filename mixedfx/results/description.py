"""Graph and equations of a fitted model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mixedfx.covariance.structure import correlation_components
from mixedfx.design.spec import ModelSpec
from mixedfx.diagrams import equations
from mixedfx.diagrams import graph as graphs
from mixedfx.errors import check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import wald
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.diagrams.equations.layout import Equation


class DescriptionMixin(ResultsBase):
    """The model as a graph and as equations, and its priors."""

    @property
    def priors(self) -> dict[str, Any]:
        """The priors given, by parameter; all others are flat."""
        return dict(self.model.priors.by_name)

    def graph(self) -> graphs.Graph:
        """
        Build the directed acyclic graph of the model, with the counts of the data.

        Returns
        -------
        Graph
            Dependences between variables, in plates with their counts. ``tree`` says whether the
            levels form a tree; ``to_dot()`` and ``to_mermaid()`` write the graph, and
            ``fit.plot.graph()`` draws it.

        References
        ----------
        .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
           Models, chapter 11.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.graph().tree
        True
        """
        return graph_of(self.model)

    def equation(self, *, estimates: bool = False) -> Equation:
        """
        Write the model as equations, level by level.

        Parameters
        ----------
        estimates : bool
            Whether to write the estimates instead of symbols.

        Returns
        -------
        Equation
            Prints as text and shows as mathematics in a notebook; ``latex``, ``unicode``,
            ``notes``.

        References
        ----------
        .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
           Models, section 12.5.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> print(fit.equation(estimates=True).unicode)
        Yieldᵢⱼ | Yᵢ ~ N(Yᵢ, 49.51²)
                  Yᵢ ~ N(1528, 42²)
        """
        check_flag("estimates", estimates)
        spec = self.model.spec
        return equations.equation(
            equations.formula_shown(spec.formula, spec.family),
            nested=nesting_of(_specs(self.model)),
            columns=None if estimates else columns_of(spec),
            estimates=_estimates(self.model) if estimates else None,
            row_terms=equations.RowTerms(
                weights=self.model.has_prior_weights and spec.residual.estimates_sigma,
                offset=spec.offset_column or spec.offset_is_argument,
                residual_sd=spec.residual.explanation,
                structure=spec.residual.covariance_structure(),
                response=_family_response(self.model, estimates=estimates),
                further=_further(self.model, estimates=estimates),
            ),
        )


def graph_of(fit: FittedModel) -> graphs.Graph:
    """Directed acyclic graph of a fitted model."""
    found = graphs.graph(
        equations.formula_shown(fit.formula, fit.spec.family),
        levels_of(_specs(fit)),
        rows=fit.nobs,
        nested=nesting_of(_specs(fit)),
        residual_sd=fit.spec.residual.residual_sd,
        params=equations.family_symbols(fit.spec.family, tuple(fit.residual.predictors)),
        further={name: part.formula for name, part in fit.residual.predictors.items()},
    )
    return graphs.with_dependence(found, fit.spec.residual.dependence)


def _specs(fit: FittedModel) -> tuple[ModelSpec, ...]:
    """Of each linear predictor."""
    return tuple(one.spec for one in fit.predictors)


def nesting_of(specs: Iterable[ModelSpec]) -> dict[str, str]:
    """Nested grouping factors of all predictors."""
    return {k: v for spec in specs for k, v in spec.nesting.items()}


def levels_of(specs: Iterable[ModelSpec]) -> dict[str, int]:
    """Numbers of levels of all grouping factors."""
    return {k: v for spec in specs for k, v in spec.ngroups.items()}


def columns_of(spec: ModelSpec) -> equations.Columns:
    """Names of the columns of a linear predictor."""
    effects = tuple(term.effect_names for term in spec.random_terms)
    return equations.Columns(spec.column_names, effects)


def _further(fit: FittedModel, *, estimates: bool) -> dict[str, equations.FurtherPredictor]:
    """The other predictors, with names of their columns or with estimates."""
    return {
        name: equations.FurtherPredictor(part.formula, estimates=_estimates(part))
        if estimates
        else equations.FurtherPredictor(part.formula, columns_of(part.spec))
        for name, part in fit.residual.predictors.items()
    }


def _family_response(fit: FittedModel, *, estimates: bool) -> equations.FamilyResponse | None:
    """Distribution of the response of a generalised model; None of a linear one."""
    spec = fit.spec
    if spec.residual.linear:
        return None
    trials = spec.family.takes_trials and fit.rows.has_weights and not fit.rows.n_merged
    params = fit.residual.family_params(fit.solution.sigma) if estimates else {}
    of_rows: str | bool = (trials and spec.weights_column) or trials
    further = tuple(fit.residual.predictors)
    return equations.family_response(spec.family, of_rows, params, further)


def _estimates(fit: FittedModel) -> equations.Estimates:
    """Estimates by the names of the equations, standard deviations and correlations by term."""
    sds: list[dict[str, float]] = []
    correlations: list[dict[tuple[str, str], float]] = []
    structures = fit.crossprod.parametrization.terms
    terms = zip(fit.spec.random_terms, structures, fit.solution.lambdas, strict=True)
    for term, (structure, _), lam in terms:
        names = term.effect_names
        found = correlation_components(fit.solution.sigma * lam, pairs=structure.correlated)
        by_kind = {kind: [c for c in found if c.kind == kind] for kind in ("sd", "corr")}
        sds.append({names[c.effects[0]]: c.value for c in by_kind["sd"]})
        pairs = ((c.effects, c.value) for c in by_kind["corr"])
        correlations.append({(names[i], names[j]): value for (i, j), value in pairs})
    fixed = {str(name): value for name, value in wald.coefficients(fit).items()}
    return equations.Estimates(fixed, sds, fit.solution.sigma, correlations)
