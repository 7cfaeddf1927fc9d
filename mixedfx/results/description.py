"""A fit shown as a model: its graph and its equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mixedfx.diagrams import equations
from mixedfx.diagrams import graph as graphs
from mixedfx.diagrams.equations.layout import Equation
from mixedfx.inference.parameters import parameters
from mixedfx.results.diagnostics import Diagnostics


@dataclass(frozen=True, repr=False)
class Description(Diagnostics):
    """
    The model behind a fit, for people to read.

    Parameters
    ----------
    fit : Fit
        The fit that it names.
    """

    def graph(self) -> graphs.Graph:
        """
        Give the model as a directed acyclic graph, with the counts of the data.

        Returns
        -------
        Graph
            What depends on what, in plates with their counts; ``tree`` says whether the levels
            form a tree; ``to_dot()``, ``to_mermaid()``; ``fit.plot.graph()`` draws it.

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
        design = self.model.design
        own: Literal["known", "modelled"] | None = None
        if _spread(self) is not None:
            own = "known" if self.model.known_sds else "modelled"
        return graphs.graph(
            self.formula,
            self.ngroups,
            rows=self.nobs,
            nested=design.nesting,
            own_spread=own,
        )

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
            Prints as text, shows as mathematics in a notebook; ``latex``, ``unicode``,
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
        design = self.model.design
        effects = tuple(block.effects for block in design.blocks)
        return equations.equation(
            design.formula,
            nested=design.nesting,
            columns=None if estimates else equations.Columns(design.columns, effects),
            estimates=_estimates(self) if estimates else None,
            weights=self.model.prior_weights is not None and not self.model.known_sds,
            offset=design.recipe.offset or design.offset is not None,
            spread=_spread(self),
        )


def _spread(fit: Diagnostics) -> str | None:
    """Say what is known of residual standard deviations that differ."""
    if fit.model.known_sds:
        return "given"
    if fit.model.dispersion is not None:
        return f"its logarithm is modelled by '{fit.model.dispersion.design.formula}'"
    return None


def _estimates(fit: Diagnostics) -> equations.Estimates:
    """Name a fit's estimates as the equations do, term by term."""
    blocks = fit.model.design.blocks
    sds: list[dict[str, float]] = [{} for _ in blocks]
    correlations: list[dict[tuple[str, str], float]] = [{} for _ in blocks]
    for p in parameters(fit.model):
        if p.term is None or p.first is None:
            continue
        effects = blocks[p.term].effects
        if p.second is None:
            sds[p.term][effects[p.first]] = p.value
        else:
            correlations[p.term][effects[p.first], effects[p.second]] = p.value
    return equations.Estimates(
        {str(k): v for k, v in fit.params.items()}, sds, fit.sigma, correlations
    )
