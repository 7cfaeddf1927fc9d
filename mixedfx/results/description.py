"""Graph and equations of a fitted model."""

from __future__ import annotations

from typing import Any

from mixedfx.covariance.structure import correlation_components
from mixedfx.diagrams import equations
from mixedfx.diagrams import graph as graphs
from mixedfx.diagrams.equations.distributions import family_symbols
from mixedfx.diagrams.equations.layout import Equation
from mixedfx.errors import check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import wald
from mixedfx.results.base import ResultsBase


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
        spec.residual.check_one_predictor("equation()", "fit.summary() has the formula of each")
        effects = tuple(term.effect_names for term in spec.random_terms)
        return equations.equation(
            equations.formula_shown(spec.formula, spec.family),
            nested=spec.nesting,
            columns=None if estimates else equations.Columns(spec.column_names, effects),
            estimates=_estimates(self.model) if estimates else None,
            row_terms=equations.RowTerms(
                weights=self.model.prior_weights is not None and spec.residual.estimates_sigma,
                offset=spec.offset_column or spec.offset_is_argument,
                residual_sd=spec.residual.explanation,
                structure=spec.residual.covariance_structure(),
                response=_family_response(self.model, estimates=estimates),
            ),
        )


def graph_of(fit: FittedModel) -> graphs.Graph:
    """Directed acyclic graph of a fitted model."""
    fit.spec.residual.check_one_predictor("graph()", "mfx.graph(formula) draws one of them")
    return graphs.graph(
        equations.formula_shown(fit.formula, fit.spec.family),
        fit.spec.ngroups,
        rows=fit.nobs,
        nested=fit.spec.nesting,
        residual_sd=fit.spec.residual.residual_sd,
        dependence=fit.spec.residual.dependence,
        params=family_symbols(fit.spec.family),
    )


def _family_response(fit: FittedModel, *, estimates: bool) -> equations.FamilyResponse | None:
    """Distribution of the response of a generalised model; None of a linear one."""
    spec = fit.spec
    if spec.residual.linear:
        return None
    trials = fit.rows.has_weights and spec.family.takes_trials
    params = fit.residual.family_params(fit.solution.sigma) if estimates else {}
    of_rows: str | bool = (trials and spec.weights_column) or trials
    return equations.family_response(spec.family, of_rows, params)


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
