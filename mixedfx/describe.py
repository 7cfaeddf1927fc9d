"""Graph and equations of a model from its formula, without fitting it."""

from __future__ import annotations

from typing import Any

from patsy import EvalEnvironment

from mixedfx.design.build import Design, build
from mixedfx.diagrams import drawing, equations
from mixedfx.diagrams import graph as graphs
from mixedfx.diagrams.equations.distributions import family_symbols
from mixedfx.diagrams.equations.layout import Equation
from mixedfx.diagrams.graph.build import Graph
from mixedfx.errors import ArgumentError, brief
from mixedfx.families.family import Family
from mixedfx.families.registry import NORMAL, resolve_family
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula
from mixedfx.results.results import Results


def graph(
    formula: str | Formula, data: Any = None, *, family: Any = None, link: Any = None
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
    of_response = _family(family, link)
    if data is None:
        shown = equations.formula_shown(parse(formula), of_response)
        return graphs.graph(shown, params=family_symbols(of_response or NORMAL))
    return _graph(_design(formula, data, of_response))


def equation(
    formula: str | Formula, data: Any = None, *, family: Any = None, link: Any = None
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
    of_response = _family(family, link)
    if data is None:
        response = None if of_response is None else equations.family_response(of_response)
        shown = equations.formula_shown(parse(formula), of_response)
        return equations.equation(shown, row_terms=equations.RowTerms(response=response))
    design = _design(formula, data, of_response)
    spec = design.spec
    effects = tuple(term.effect_names for term in spec.random_terms)
    columns = equations.Columns(spec.column_names, effects)
    trials = design.rows.has_weights and spec.family.takes_trials
    response = None if of_response is None else equations.family_response(spec.family, trials)
    return equations.equation(
        equations.formula_shown(spec.formula, spec.family),
        nested=spec.nesting,
        columns=columns,
        row_terms=equations.RowTerms(response=response),
    )


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


def _graph(design: Design) -> Graph:
    spec, n = design.spec, design.rows.n
    shown, params = equations.formula_shown(spec.formula, spec.family), family_symbols(spec.family)
    return graphs.graph(shown, spec.ngroups, rows=n, nested=spec.nesting, params=params)


def _family(family: Any, link: Any) -> Family | None:
    """Family that the arguments ask for; None without them."""
    if family is None and link is None:
        return None
    return resolve_family("gaussian" if family is None else family, link)


def _design(formula: str | Formula, data: Any, family: Family | None = None) -> Design:
    env = EvalEnvironment.capture(2)
    return build(parse(formula), data, family=NORMAL if family is None else family, env=env)
