"""Formula to graph: what depends on what, in which plates, and whether it is a tree.

Source of truth: the generative reading of each model. A friend's mean is drawn around the overall
one, a classroom's around its school's, an app's around its publisher's, and rows around all.
"""

from __future__ import annotations

import re

import pytest

import mixedfx as mfx
from mixedfx._names import encode
from mixedfx.diagrams.graph.build import graph
from mixedfx.diagrams.graph.model_terms import hierarchical_model
from mixedfx.diagrams.graph.names import display_name, split_interaction
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.errors import ArgumentError, FormulaError

ROMCOM = "rating ~ 1 + (1 | friend)"
SCHOOLS = "y ~ hours + (1 | state/district/school/classroom) + (1 | ses)"
CRASHES = "crashes ~ 1 + (1 | publisher/app) + (1 | device)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
PSYCH = "y ~ cond + (cond | subj) + (cond | item)"
NEST = "y ~ 1 + (1 | country/region/city/school/room)"
CELLS = "y ~ 1 + (1 | a) + (1 | b) + (1 | a:b)"
ODD = (
    "Q('a \"share\" of %') ~ Q('x:y [z]') + Q('{b}; \\\\ <i> `c` #1. | $') "
    "+ (x | Q('my \"group\"')/h) + (0 + x || Q('end'))"
)
FORMULAS = [ROMCOM, SCHOOLS, CRASHES, SLEEP, PSYCH, NEST, CELLS, ODD, "y ~ x", "y ~ 1"]

every_formula = pytest.mark.parametrize("formula", FORMULAS)


def edges(formula, **options):
    return {(e.source, e.target) for e in graph(formula, **options).edges}


def modelled_parents(formula, node, **options):
    g = graph(formula, **options)
    modelled = {n.name for n in g.nodes if n.kind == "random"}
    return {e.source for e in g.edges if e.target == node} & modelled


def plate(formula, name, **options):
    return next(p for p in graph(formula, **options).plates if p.name == name)


def label(formula, name, **options):
    return next(n.label for n in graph(formula, **options).nodes if n.name == name)


# ---------------------------------------------------------------- every graph


@every_formula
def test_names_are_unique(formula):
    g = graph(formula)
    for things in (g.nodes, g.plates):
        names = [t.name for t in things]
        assert len(set(names)) == len(names)


@every_formula
def test_edges_join_nodes_and_stand_once(formula):
    g = graph(formula)
    names = {n.name for n in g.nodes}
    assert {end for e in g.edges for end in (e.source, e.target)} <= names
    assert len(set(g.edges)) == len(g.edges)


@every_formula
def test_it_has_no_circle(formula):
    g = graph(formula)
    order = [n.name for n in g.nodes]
    assert all(order.index(e.source) < order.index(e.target) for e in g.edges)


@every_formula
def test_every_node_leads_to_the_response(formula):
    g = graph(formula)
    reached = {n.name for n in g.nodes if n.kind == "response"}
    for node in reversed(g.nodes):
        reached |= {node.name for e in g.edges if e.source == node.name and e.target in reached}
    assert reached == {n.name for n in g.nodes}


@every_formula
def test_parameters_stand_outside_all_plates(formula):
    assert all((n.plate is None) == (n.kind == "parameter") for n in graph(formula).nodes)


@every_formula
def test_the_response_stands_in_all_plates(formula):
    g = graph(formula)
    response = next(n for n in g.nodes if n.kind == "response")
    assert g.enclosing_plates(response.plate) == tuple(p.name for p in g.plates)


@every_formula
def test_random_effects_stand_in_their_groups(formula):
    terms = {str(t): t.group_name for t in mfx.parse(formula).random}
    found = {n.name: n.plate for n in graph(formula).nodes if n.kind == "random"}
    assert found == terms


def test_a_parsed_formula_gives_the_same_graph():
    assert graph(mfx.parse(SCHOOLS)) == graph(SCHOOLS)


# ---------------------------------------------------------------- dependence


def test_a_random_intercept_scatters_around_the_mean():
    assert edges(ROMCOM) == {
        ("mean", "(1 | friend)"),
        ("sd (1 | friend)", "(1 | friend)"),
        ("(1 | friend)", "rating"),
        ("sigma", "rating"),
    }


def test_nested_intercepts_are_a_chain():
    expected = {
        "(1 | country)": set(),
        "(1 | country:region)": {"(1 | country)"},
        "(1 | country:region:city)": {"(1 | country:region)"},
        "(1 | country:region:city:school)": {"(1 | country:region:city)"},
        "(1 | country:region:city:school:room)": {"(1 | country:region:city:school)"},
        "y": {"(1 | country:region:city:school:room)"},
    }
    assert {node: modelled_parents(NEST, node) for node in expected} == expected


def test_crossed_factors_meet_at_the_response():
    expected = {"(1 | state:district:school:classroom)", "(1 | ses)"}
    assert modelled_parents(SCHOOLS, "y") == expected


def test_cells_scatter_around_the_sum_of_what_they_cross():
    assert modelled_parents(CELLS, "(1 | a:b)") == {"(1 | a)", "(1 | b)"}
    assert modelled_parents(CELLS, "y") == {"(1 | a:b)"}


def test_only_one_term_carries_the_mean():
    assert {t for s, t in edges(CRASHES) if s == "mean"} == {"(1 | publisher)"}


def test_coefficients_hold_the_mean_of_slopes():
    assert edges(SLEEP) == {
        ("cov (Days | Subject)", "(Days | Subject)"),
        ("(Days | Subject)", "Reaction"),
        ("beta", "Reaction"),
        ("Days", "Reaction"),
        ("sigma", "Reaction"),
    }


def test_nested_vectors_of_the_same_effects_are_a_chain():
    assert modelled_parents("y ~ x + (x | a/b)", "y") == {"(x | a:b)"}


def test_effects_that_an_inner_level_lacks_enter_directly():
    assert modelled_parents("y ~ x + (x | a) + (1 | a:b)", "y") == {"(x | a)", "(1 | a:b)"}


def test_the_nearest_outer_level_is_the_parent():
    formula = "y ~ 1 + (1 | a) + (1 | a:b:c)"
    assert modelled_parents(formula, "(1 | a:b:c)") == {"(1 | a)"}


def test_without_an_intercept_nothing_carries_a_mean():
    assert "mean" not in {n.name for n in graph("y ~ 0 + x + (1 | g)").nodes}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ np.log(x) + bs(z, df=k) + (1 | g)", ["x", "z"]),
        ("y ~ C(f, Treatment('a')) * C(h, Sum)", ["f", "h"]),
        ("y ~ Q('odd name') + I(x**2 + np.pi)", ["odd name", "x"]),
        ("y ~ x:z + (u | g)", ["x", "z", "u"]),
        ("y ~ x.clip(0) + (1 | g)", ["x"]),
        ("y ~ y + x", ["x"]),
        ("np.log(y) ~ x", ["x"]),
    ],
)
def test_covariates_are_columns_not_functions(formula, expected):
    assert [n.name for n in graph(formula).nodes if n.kind == "covariate"] == expected


def test_a_column_may_be_named_like_a_parameter():
    names = [n.name for n in graph("y ~ sigma + beta + (1 | g)").nodes]
    assert len(names) == len(set(names)) == 8


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize(
    ("formula", "tree"),
    [
        (ROMCOM, True),
        (SLEEP, True),
        (NEST, True),
        ("y ~ x", True),
        ("y ~ x + (1 | g) + (0 + x | g)", True),
        ("y ~ x + (x | a) + (1 | a:b)", True),
        (SCHOOLS, False),
        (CRASHES, False),
        (PSYCH, False),
        (CELLS, False),
        ("y ~ 1 + (1 | a) + (1 | a:b) + (1 | a:c)", False),
    ],
)
def test_a_tree_is_what_has_no_crossed_factors(formula, tree):
    assert graph(formula).tree is tree


def test_a_tree_of_intercepts_gives_each_modelled_variable_one_parent():
    g = graph(NEST)
    modelled = [n.name for n in g.nodes if n.kind in ("random", "response")]
    parents = {name: modelled_parents(NEST, name) for name in modelled}
    assert sorted(map(len, parents.values())) == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        (ROMCOM, "A tree: each row belongs to one level of friend."),
        (
            "y ~ 1 + (1 | a/b)",
            "A tree: each row belongs to one level of b, each of these to one of a.",
        ),
        (
            SCHOOLS,
            "Not a tree: rows belong to levels of classroom (in school, in district, in state) "
            "and of ses, which are crossed.",
        ),
        (CELLS, "Not a tree: levels of a:b belong to levels of a and of b, which are crossed."),
        (
            "y ~ 1 + (1 | a) + (1 | b) + (1 | c)",
            "Not a tree: rows belong to levels of a, of b and of c, which are crossed.",
        ),
        ("y ~ x", "A tree, of one level: there are no groups, and rows depend on no other."),
    ],
)
def test_it_says_why(formula, sentence):
    assert str(graph(formula)) == graph(formula).describe() == sentence


# ---------------------------------------------------------------- plates


def test_nested_plates_lie_inside_each_other():
    g = graph(SCHOOLS)
    assert g.enclosing_plates("state:district:school") == (
        "state",
        "state:district",
        "state:district:school",
    )


def test_rows_lie_in_all_innermost_plates():
    expected = ("state:district:school:classroom", "ses")
    assert plate(SCHOOLS, "rows").parents == expected


def test_plates_have_counts():
    counts = {"publisher": 15, "publisher:app": 80, "device": 200}
    titles = [p.title for p in graph(CRASHES, counts, rows=2390).plates]
    assert titles == ["publisher i (15)", "app j (80)", "device k (200)", "rows l (2,390)"]


def test_a_fit_gives_the_counts():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    found = graph(fit.formula, fit.ngroups, rows=fit.nobs).plates
    assert [p.count for p in found] == [6, 30]


def test_a_group_may_be_named_rows():
    assert [p.name for p in graph("y ~ 1 + (1 | rows)").plates] == ["rows", "rows′"]


@pytest.mark.parametrize(
    "formula", ["y ~ 1 + (1 | batch) + (1 | sample)", "y ~ (1|sample)+(1|batch)"]
)
def test_nesting_found_in_the_data_is_nesting(formula):
    g = graph(formula, nested={"sample": "batch"})
    assert g.tree
    assert g.enclosing_plates("rows") == ("batch", "sample", "rows")
    assert modelled_parents(formula, "y", nested={"sample": "batch"}) == {"(1 | sample)"}


def test_nesting_goes_on_to_what_is_nested_in_turn():
    formula = "y ~ 1 + (1 | a) + (1 | b) + (1 | c)"
    assert graph(formula, nested={"a": "b", "b": "c"}).enclosing_plates("a") == ("c", "b", "a")


# ---------------------------------------------------------------- symbols


@pytest.mark.parametrize(
    ("formula", "node", "expected"),
    [
        (ROMCOM, "(1 | friend)", "Rᵢ"),
        (ROMCOM, "rating", "ratingᵢⱼ"),
        (ROMCOM, "mean", "R"),
        (ROMCOM, "sd (1 | friend)", "σ_friend"),
        (SCHOOLS, "(1 | state:district:school)", "μᵢⱼₖ"),
        (SCHOOLS, "(1 | ses)", "bₘ"),
        (SCHOOLS, "sd (1 | state:district)", "σ_district"),
        (SCHOOLS, "beta", "β₁"),
        (SLEEP, "beta", "β"),
        (SLEEP, "cov (Days | Subject)", "Σ_Subject"),
        (PSYCH, "(cond | item)", "cⱼ"),
        ("y ~ x + (0 + x | g)", "sd (0 + x | g)", "σ_x"),
        ("N ~ 1 + (1 | g)", "mean", "μ"),
        ("Rate ~ R + (1 | g)", "mean", "μ"),
        ("np.log(y) ~ 1 + (1 | g)", "np.log(y)", "np.log(y)ᵢⱼ"),
    ],
)
def test_symbols(formula, node, expected):
    assert label(formula, node) == expected


def test_inner_levels_are_numbered_within_the_outer_ones():
    factors = hierarchical_model("y ~ 1 + (1 | sample) + (1 | batch)", {"sample": "batch"}).factors
    assert [(f.name, f.indices) for f in factors] == [("batch", "i"), ("sample", "ij")]


def test_symbols_are_unique():
    g = graph("y ~ x + b + (x | g) + (x || g) + (1 | h) + (0 + x | h) + (b | g:h)")
    symbols = [n.label for n in g.nodes]
    assert len(set(symbols)) == len(symbols)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x", "x"),
        (encode("a b"), "a b"),
        ("C(f, Treatment('a'))[T.b]", "f[T.b]"),
        (f"C({encode('odd)')})[b]", "odd)[b]"),
        ("I(x ** 2)", "(x ** 2)"),
        ("np.log(x)", "np.log(x)"),
        ("Q(", "Q("),
    ],
)
def test_columns_are_spelled_as_readers_know_them(code, expected):
    assert display_name(code) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x:z", ["x", "z"]),
        ("f[T.a:b]:x", ["f[T.a:b]", "x"]),
        ("Q('a:b'):x", ["Q('a:b')", "x"]),
        ("it's:x", ["it's", "x"]),
        ("Q(':)'):x", ["Q(':)')", "x"]),
    ],
)
def test_interactions_are_taken_apart(name, expected):
    assert split_interaction(name) == expected


@pytest.mark.parametrize("sign", "_%#&${}")
def test_signs_of_latex_are_escaped(sign):
    assert Math.upright(f"a{sign}b").latex == rf"\mathrm{{a\{sign}b}}"


# ---------------------------------------------------------------- as text

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def outside_strings(text):
    """What is left of a text without its strings; these must not break lines."""
    assert all("\n" not in s for s in STRING.findall(text))
    return STRING.sub("", text)


@every_formula
def test_dot_declares_each_node_once(formula):
    g = graph(formula, rows=10)
    code = outside_strings(g.to_dot())
    declared = re.findall(r"^ *(n\d+) \[", code, re.MULTILINE)
    assert len(declared) == len(set(declared)) == len(g.nodes)


@every_formula
def test_dot_has_all_edges_between_declared_nodes(formula):
    g = graph(formula)
    code = outside_strings(g.to_dot())
    declared = set(re.findall(r"^ *(n\d+) \[", code, re.MULTILINE))
    arrows = re.findall(r"^ *(n\d+) -> (n\d+);$", code, re.MULTILINE)
    assert len(arrows) == len(g.edges)
    assert {end for arrow in arrows for end in arrow} <= declared


@every_formula
def test_dot_has_balanced_braces_and_a_cluster_for_each_plate(formula):
    g = graph(formula)
    code = outside_strings(g.to_dot())
    depth = 0
    for sign in re.findall(r"[{}]", code):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    clusters = re.findall(r"subgraph (cluster_\d+) \{", code)
    assert len(clusters) == len(set(clusters)) == len(g.plates)


@every_formula
def test_dot_is_nothing_but_statements(formula):
    kinds = (
        r"digraph model \{",
        r"subgraph cluster_\d+ \{",
        r"\}",
        r"label=;",
        r"style=;",
        r"n\d+ \[label=, shape=\w+(, style=filled, fillcolor=)?\];",
        r"n\d+ -> n\d+;",
    )
    for line in outside_strings(graph(formula).to_dot()).splitlines():
        assert re.fullmatch("|".join(kinds), line.strip()), line


def test_dot_keeps_labels():
    assert r'label="a \"share\" of %' in graph(ODD).to_dot()
    assert r"{b}; \\ <i> `c` #1. | $" in graph(ODD).to_dot()


@every_formula
def test_mermaid_is_nothing_but_statements(formula):
    text = r'"[^"\n]*"'
    kinds = (
        r"flowchart TD",
        rf"subgraph p\d+\[{text}\]",
        r"end",
        rf"n\d+\[{text}\]:::parameter",
        rf"n\d+\(\({text}\)\)(:::observed)?",
        r"n\d+ --> n\d+",
        r"classDef \w+ [\w:#,]+",
    )
    for line in graph(formula).to_mermaid().splitlines():
        assert re.fullmatch("|".join(kinds), line.strip()), line


@every_formula
def test_mermaid_declares_what_it_joins(formula):
    g = graph(formula)
    code = g.to_mermaid()
    declared = re.findall(r"^ *(n\d+)[\[(]", code, re.MULTILINE)
    arrows = re.findall(r"(n\d+) --> (n\d+)", code)
    assert len(declared) == len(set(declared)) == len(g.nodes)
    assert len(arrows) == len(g.edges)
    assert {end for arrow in arrows for end in arrow} <= set(declared)


@every_formula
def test_mermaid_closes_its_boxes(formula):
    code = graph(formula).to_mermaid()
    boxes = re.findall(r"^ *subgraph (p\d+)", code, re.MULTILINE)
    ends = re.findall(r"^ *end$", code, re.MULTILINE)
    assert len(boxes) == len(set(boxes)) == len(ends) == len(graph(formula).plates)


def test_mermaid_writes_signs_as_numbers():
    strings = re.findall(r'"([^"\n]*)"', graph(ODD).to_mermaid())
    assert any(f"a #{ord(chr(34))};share" in s for s in strings)
    assert not any(re.search(r"[`<>|\\\[\]{}$%:.]", s) for s in strings)


@pytest.mark.parametrize("formula", [SCHOOLS, "y ~ hours + (1 | ses) + (1 | state/district)"])
def test_text_puts_rows_into_the_deepest_plate_and_names_the_other(formula):
    assert "also in ses" in graph(formula).to_dot()
    assert "also in ses" in graph(formula).to_mermaid()


def test_a_notebook_shows_mermaid_and_the_sentence():
    shown = graph(ROMCOM)._repr_markdown_()
    assert shown.startswith("```mermaid\nflowchart TD\n")
    assert shown.count("```") == 2
    assert graph(ROMCOM).describe() in shown


# ---------------------------------------------------------------- errors


def test_a_dot_needs_data():
    with pytest.raises(FormulaError, match=r"only data tell what '\.' stands for"):
        graph("y ~ . + (1 | g)")


def test_a_formula_that_is_none_is_refused():
    with pytest.raises(FormulaError):
        graph("y ~ x | g")


@pytest.mark.parametrize("argument", ["nested", "counts"])
def test_an_unknown_group_is_refused_with_the_nearest(argument):
    given = {"nested": {"Freind": "friend"}, "counts": {"Freind": 3}}[argument]
    with pytest.raises(ArgumentError, match=f"{argument} names 'Freind'.*Did you mean 'friend'"):
        graph(ROMCOM, **{argument: given})


def test_a_circle_of_nesting_is_refused():
    with pytest.raises(ArgumentError, match="a circle"):
        graph("y ~ 1 + (1 | a) + (1 | b)", nested={"a": "b", "b": "a"})


@pytest.mark.parametrize("options", [{"rows": 0}, {"counts": {"friend": -1}}])
def test_counts_are_positive(options):
    with pytest.raises(ArgumentError, match="at least 1"):
        graph(ROMCOM, **options)


@pytest.mark.parametrize(("own", "kind"), [("known", "covariate"), ("modelled", "random")])
def test_standard_deviations_of_their_own_stand_with_the_rows(own, kind):
    found = graph("rating ~ 1 + (1 | friend)", residual_sd=own)
    sigma = next(node for node in found.nodes if node.name == "sigma")
    assert (sigma.kind, sigma.plate, sigma.label) == (kind, "rows", "σᵢⱼ")
