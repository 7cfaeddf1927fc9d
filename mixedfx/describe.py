"""Graph and equations of a model from its formula, without fitting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patsy import EvalEnvironment

from mixedfx.design.build import build, build_several
from mixedfx.design.predictors import family_with
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.diagrams import drawing, equations
from mixedfx.diagrams import graph as graphs
from mixedfx.diagrams.equations.distributions import family_symbols
from mixedfx.diagrams.equations.layout import Equation
from mixedfx.diagrams.graph.build import Graph
from mixedfx.errors import ArgumentError, brief
from mixedfx.families.family import Family
from mixedfx.families.gaussian import NORMAL
from mixedfx.families.registry import resolve_family
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.formula.terms import Formula
from mixedfx.results.description import columns_of, levels_of, nesting_of
from mixedfx.results.results import Results


def graph(
    formula: str | Formula,
    data: Any = None,
    *,
    family: Any = None,
    link: Any = None,
    zero_inflation: str | None = None,
    dispersion: str | None = None,
) -> Graph:
    """
    Build the directed acyclic graph of the model of a formula.

    Parameters
    ----------
    formula : str or Formula
        As for :func:`mixedfx.lmer`.
    data : DataFrame, optional
        To count levels and rows, and to detect nesting that the formula does not express.
    family : str or family of statsmodels, optional
        Distribution of the response of a generalised model, as for :func:`mixedfx.glmer`.
    link : str, optional
        Link of its mean.
    zero_inflation, dispersion : str, optional
        Formulas of the zero part and of the dispersion parameter, as for
        :func:`mixedfx.glmer`; without a family the response is normal.

    Returns
    -------
    Graph
        Dependences between variables, in plates; ``tree`` says whether the levels form a tree;
        :func:`mixedfx.draw` draws the graph, ``to_dot()`` and ``to_mermaid()`` write it.

    Raises
    ------
    FormulaError
        If the formula is invalid.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, chapter 11.

    Examples
    --------
    >>> print(graph("rating ~ 1 + (1 | friend)"))
    A tree: each row belongs to one level of friend.
    """
    parts = _parts(zero_inflation, dispersion)
    of_response = _family(family, link, parts)
    if data is None:
        return _graph_of_formula(parse(formula), of_response or NORMAL, parts)
    return _graph(_design(formula, data, of_response, parts))


def equation(
    formula: str | Formula,
    data: Any = None,
    *,
    family: Any = None,
    link: Any = None,
    zero_inflation: str | None = None,
    dispersion: str | None = None,
) -> Equation:
    """
    Write a formula's model as equations, level by level.

    Parameters
    ----------
    formula : str or Formula
        As for :func:`mixedfx.lmer`.
    data : DataFrame, optional
        To expand the columns of factors, and to detect nesting that the formula does not
        express.
    family : str or family of statsmodels, optional
        Distribution of the response of a generalised model, as for :func:`mixedfx.glmer`.
    link : str, optional
        Link of its mean.
    zero_inflation, dispersion : str, optional
        Formulas of the zero part and of the dispersion parameter, as for
        :func:`mixedfx.glmer`; without a family the response is normal.

    Returns
    -------
    Equation
        Prints as text and shows as mathematics in a notebook; ``latex``, ``unicode``, ``notes``.

    Raises
    ------
    FormulaError
        If the formula is invalid.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, section 12.5.

    Examples
    --------
    >>> print(equation("rating ~ 1 + (1 | friend)").unicode)
    ratingᵢⱼ | Rᵢ ~ N(Rᵢ, σ²)
               Rᵢ ~ N(R, σ_friend²)
    """
    parts = _parts(zero_inflation, dispersion)
    of_response = _family(family, link, parts)
    if data is None:
        response = None
        if of_response is not None:
            response = equations.family_response(of_response, further=tuple(parts))
        further = {name: equations.FurtherPredictor(part) for name, part in parts.items()}
        shown = equations.formula_shown(parse(formula), of_response)
        return equations.equation(
            shown, row_terms=equations.RowTerms(response=response, further=further)
        )
    return _equation(_design(formula, data, of_response, parts), given=of_response is not None)


def draw(model: str | Formula | Graph | Results, data: Any = None, *, ax: Any = None) -> Any:
    """
    Draw the graph of a model with matplotlib.

    Parameters
    ----------
    model : str, Formula, Graph or Results
        A formula, its graph, or a fit.
    data : DataFrame, optional
        For a formula, to count levels and rows.
    ax : matplotlib axes, optional
        Where to draw.

    Returns
    -------
    matplotlib axes
        Circles for variables, shaded if observed, dots for parameters, and a plate for each
        grouping factor and for the rows.

    Raises
    ------
    ArgumentError
        If it is none of these, or has more crossed factors than can be laid out in a plane.

    Examples
    --------
    >>> ax = draw("crashes ~ 1 + (1 | publisher/app) + (1 | device)")
    """
    if isinstance(model, Results):
        model = model.graph()
    if isinstance(model, str | Formula):
        model = graph(model) if data is None else _graph(_design(model, data))
    if not isinstance(model, Graph):
        raise ArgumentError(f"draw() takes a formula, a graph or a fit, not {brief(model)}.")
    return drawing.draw(model, ax=ax)


@dataclass(frozen=True)
class _Described:
    """What is known of a model and its data, without a fit."""

    spec: ModelSpec
    rows: ModelRows
    parts: Mapping[str, ModelSpec]  # of further predictors

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Of all predictors."""
        return (self.spec, *self.parts.values())


def _graph(model: _Described) -> Graph:
    spec = model.spec
    return graphs.graph(
        equations.formula_shown(spec.formula, spec.family),
        levels_of(model.specs),
        rows=model.rows.n,
        nested=nesting_of(model.specs),
        params=family_symbols(spec.family, tuple(model.parts)),
        further={name: part.formula for name, part in model.parts.items()},
    )


def _graph_of_formula(formula: Formula, family: Family, parts: Mapping[str, Formula]) -> Graph:
    shown, params = equations.formula_shown(formula, family), family_symbols(family, tuple(parts))
    return graphs.graph(shown, params=params, further=parts)


def _equation(model: _Described, *, given: bool) -> Equation:
    """With a distribution of the response where one is asked for."""
    spec = model.spec
    trials = model.rows.has_weights and spec.family.takes_trials
    response = equations.family_response(spec.family, trials, further=tuple(model.parts))
    further = {
        name: equations.FurtherPredictor(part.formula, columns_of(part))
        for name, part in model.parts.items()
    }
    return equations.equation(
        equations.formula_shown(spec.formula, spec.family),
        nested=nesting_of(model.specs),
        columns=columns_of(spec),
        row_terms=equations.RowTerms(response=response if given else None, further=further),
    )


def _parts(zero_inflation: str | None, dispersion: str | None) -> dict[str, Formula]:
    """Formulas of the further predictors, by argument."""
    parts = {}
    if zero_inflation is not None:
        parts["zero_inflation"] = parse_dispersion(zero_inflation, "zero_inflation")
    if dispersion is not None:
        parts["dispersion"] = parse_dispersion(dispersion, "family dispersion")
    return parts


def _family(family: Any, link: Any, parts: Mapping[str, Formula]) -> Family | None:
    """Family that the arguments ask for; None without them."""
    if family is None and link is None and not parts:
        return None
    return family_with(resolve_family("gaussian" if family is None else family, link), parts)


def _design(
    formula: str | Formula,
    data: Any,
    family: Family | None = None,
    parts: Mapping[str, Formula] | None = None,
) -> _Described:
    env = EvalEnvironment.capture(2)
    given = {"family": NORMAL if family is None else family, "env": env}
    if not parts:
        design = build(parse(formula), data, **given)
        return _Described(design.spec, design.rows, {})
    design, designs = build_several(parse(formula), parts, data, **given)
    further = {name: part.spec for name, part in designs.items()}
    return _Described(design.spec, design.rows, further)
