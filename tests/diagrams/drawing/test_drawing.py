"""Graph to picture: what is drawn is where it belongs, and nothing covers anything else.

Source of truth: geometry. The patches and texts are measured as drawn.
"""

from __future__ import annotations

import itertools
import random
import sys

import matplotlib as mpl
import numpy as np
import pytest
from tiers import but_for

from mixedfx.diagrams.drawing.draw import draw
from mixedfx.diagrams.drawing.ordering import order_plates
from mixedfx.diagrams.graph.build import graph
from mixedfx.errors import ArgumentError

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

FORMULAS = [
    "rating ~ 1 + (1 | friend)",
    "y ~ hours + (1 | state/district/school/classroom) + (1 | ses)",
    "crashes ~ 1 + (1 | publisher/app) + (1 | device)",
    "Reaction ~ Days + (Days | Subject)",
    "y ~ cond + (cond | subj) + (cond | item)",
    "y ~ 1 + (1 | country/region/city/school/room)",
    "y ~ 1 + (1 | student) + (1 | lecturer) + (1 | department)",
    "y ~ x + (1 | a) + (1 | b) + (1 | c) + (1 | d) + (1 | e)",
    "y ~ 1 + (1 | a) + (1 | b) + (1 | a:b)",
    "y ~ 1 + (1 | school) + (1 | school:room) + (1 | school:teacher)",
    "score ~ 1 + (1 | p) + (1 | i) + (1 | o) + (1 | p:i) + (1 | p:o) + (1 | i:o)",
    "y ~ x + z + (1 | g) + (0 + x | g) + (0 + z | g) + (1 | h)",
    "y ~ x + (x | a) + (1 | a:b)",
    "w ~ age + height + sex + diet + smoker + region + income + wealth + (age | clinic/patient)",
    "y ~ x + (1 | a/b/c) + (1 | d/e) + (x | f)",
    "Q('share_%') ~ Q('a $ b') + Q('<i>#') + np.log(größe) + (1 | Q('my $ group')/Q('x:y'))",
    "y ~ x + z",
    "y ~ 1",
]


def chance_formulas(count):
    """Formulas of nested, crossed and interacting groups, the same each time."""
    rng = random.Random(1)
    for _ in range(count):
        names = ["a", "school", "d", "a_long_name_of_a_group", "e"][: rng.randint(1, 5)]
        terms = {}
        for _ in range(rng.randint(1, 4)):
            groups = rng.sample(names, rng.randint(1, min(3, len(names))))
            effects = rng.choice(["1", "1", "x", "0 + x", "x + z"])
            for depth in range(1, len(groups) + 1) if rng.random() < 0.5 else [len(groups)]:
                terms[f"({effects} | {':'.join(sorted(groups[:depth]))})"] = None
        fixed = rng.choice(["1", "x", "x + z + a_long_name_of_a_covariate"])
        yield f"{rng.choice(['y', 'a_long_response'])} ~ {fixed} + {' + '.join(terms)}"


class Drawn:
    """A drawing, by the names of what is in it."""

    def __init__(self, formula, ax=None):
        self.graph = graph(formula, rows=12345)
        self.ax = draw(self.graph, ax=ax)
        self.ax.figure.canvas.draw()
        patches = {p.get_gid(): p for p in self.ax.patches}
        self.ellipses = {n.name: patches[f"node {n.name}"] for n in self.graph.nodes}
        self.nodes = {name: ellipse_box(e) for name, e in self.ellipses.items()}
        self.plates = {p.name: plate_box(patches[f"plate {p.name}"]) for p in self.graph.plates}
        self.arrows = {
            e: self.along(patches[f"edge {e.source} -> {e.target}"].get_path())
            for e in self.graph.edges
        }
        self.texts = [(t.get_text(), self.box_of(t)) for t in self.ax.texts]

    def along(self, path):
        """Points close together on a path; on the screen first, where curves are made polygons."""
        to_screen = self.ax.transData
        lines = path.transformed(to_screen).to_polygons(closed_only=False)
        points = np.vstack([Path(line).interpolated(20).vertices for line in lines])
        return to_screen.inverted().transform(points)

    def box_of(self, text):
        return text.get_window_extent().transformed(self.ax.transData.inverted()).extents


def ellipse_box(e):
    (x, y), w, h = e.center, e.width / 2, e.height / 2
    return np.array([x - w, y - h, x + w, y + h])


def plate_box(p):
    return np.array([p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()])


def inside(a, b):
    return bool(np.all(a[:2] > b[:2]) and np.all(a[2:] < b[2:]))


def apart(a, b):
    return bool(np.any(a[2:] < b[:2]) or np.any(b[2:] < a[:2]))


FEW = [FORMULAS[i] for i in (0, 1, 2, 3, 10, 15, 17)]


CHECKS = []


def check(function):
    """Register a claim on a drawing."""
    CHECKS.append(function)
    return function


@pytest.mark.slow_beyond(40)
@pytest.mark.full
@pytest.mark.parametrize("formula", but_for([*FORMULAS, *chance_formulas(15)], FEW))
def test_nothing_covers_anything_else(formula, subtests):
    drawn = Drawn(formula)
    for holds in CHECKS:
        with subtests.test(holds.__name__):
            holds(drawn)
    plt.close("all")


# ---------------------------------------------------------------- where things are


@check
def nodes_lie_in_their_plates_and_in_no_other(drawn):
    for node in drawn.graph.nodes:
        around = drawn.graph.enclosing_plates(node.plate)
        for name, box in drawn.plates.items():
            relation = inside if name in around else apart
            assert relation(drawn.nodes[node.name], box), (node.name, name)


@check
def plates_lie_inside_each_other_as_levels_do(drawn):
    for a, b in itertools.permutations(drawn.plates, 2):
        nested = b in drawn.graph.enclosing_plates(a)
        assert inside(drawn.plates[a], drawn.plates[b]) == nested, (a, b)


@check
def crossed_plates_overlap(drawn):
    for a, b in itertools.combinations(drawn.plates.values(), 2):
        assert not apart(a, b)


@check
def no_two_borders_fall_together(drawn):
    for sides in zip(*drawn.plates.values(), strict=True):
        assert len(np.unique(np.round(sides, 3))) == len(sides)


@check
def no_two_nodes_overlap(drawn):
    for a, b in itertools.combinations(drawn.nodes.values(), 2):
        assert apart(a, b)


@check
def there_is_an_arrow_for_each_edge(drawn):
    arrows = [p for p in drawn.ax.patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == len(drawn.graph.edges)


@check
def arrows_run_over_no_other_node(drawn):
    for edge, path in drawn.arrows.items():
        for name, e in drawn.ellipses.items():
            if name not in (edge.source, edge.target):
                away = (path - e.center) / [e.width / 2, e.height / 2]
                assert np.all(np.sum(away**2, axis=1) > 1), (edge, name)


@check
def arrows_end_at_the_borders_of_their_nodes(drawn):
    for edge, path in drawn.arrows.items():
        e = drawn.ellipses[edge.target]
        reach = np.sqrt(np.sum(((path - e.center) / [e.width / 2, e.height / 2]) ** 2, axis=1))
        assert 0.97 < reach.min() < 1.15


# ---------------------------------------------------------------- what is written


@check
def every_node_and_plate_has_a_text(drawn):
    assert len(drawn.texts) == len(drawn.graph.nodes) + len(drawn.graph.plates)


@check
def no_two_texts_overlap(drawn):
    for (a, one), (b, two) in itertools.combinations(drawn.texts, 2):
        assert apart(one, two), (a, b)


@check
def no_text_is_clipped(drawn):
    (left, right), (bottom, top) = drawn.ax.get_xlim(), drawn.ax.get_ylim()
    for text, box in drawn.texts:
        assert inside(box, np.array([left, bottom, right, top])), text


@check
def no_border_runs_through_a_text(drawn):
    for text, box in drawn.texts:
        for plate in drawn.plates.values():
            assert inside(box, plate) or apart(box, plate), text


@check
def labels_fit_into_their_nodes(drawn):
    for text, box in drawn.texts:
        for node in drawn.nodes.values():
            assert inside(box, node) or apart(box, node), text


@check
def no_arrow_runs_through_a_text(drawn):
    for text, box in drawn.texts:
        for path in drawn.arrows.values():
            assert not np.any(np.all((path > box[:2]) & (path < box[2:]), axis=1)), text


# ---------------------------------------------------------------- axes


@pytest.mark.full
def test_what_is_observed_is_shaded():
    found = Drawn("y ~ x + (1 | g)")
    shaded = {n for n, e in found.ellipses.items() if e.get_facecolor()[:3] == (13 / 15,) * 3}
    assert shaded == {"y", "x"}
    plt.close("all")


@pytest.mark.full
def test_circles_are_round_where_labels_are_short():
    found = Drawn("y ~ 1 + (1 | g)").ellipses
    assert found["(1 | g)"].width == found["(1 | g)"].height
    plt.close("all")


@pytest.mark.full
def test_a_figure_is_made_in_the_pictures_size():
    ax = draw(graph("y ~ 1 + (1 | g)"))
    size = [np.diff(ax.get_xlim())[0], np.diff(ax.get_ylim())[0]]
    np.testing.assert_allclose(ax.figure.get_size_inches(), size)
    plt.close("all")


@pytest.mark.full
@pytest.mark.parametrize("layout", but_for([None, "constrained", "tight"], [None]))
def test_on_given_axes_it_is_made_smaller_with_its_letters(layout):
    _, axes = plt.subplots(1, 2, figsize=(6, 2.5), layout=layout)
    found = Drawn(FORMULAS[1], ax=axes[1])
    assert found.ax is axes[1]
    for (a, one), (b, two) in itertools.combinations(found.texts, 2):
        assert apart(one, two), (a, b)
    plt.close("all")


def test_on_large_axes_it_keeps_its_size():
    ax = draw(graph("y ~ 1 + (1 | g)"), ax=plt.subplots(figsize=(20, 20))[1])
    assert {t.get_fontsize() for t in ax.texts} == {12.0, 10.8}
    plt.close("all")


@pytest.mark.full
def test_no_global_style_is_changed():
    before = dict(mpl.rcParams)
    draw(graph(FORMULAS[1]))
    assert dict(mpl.rcParams) == before
    plt.close("all")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "mixedfx\[plot\]"'):
        draw(graph("y ~ x"))


# ---------------------------------------------------------------- orders


def test_crossed_factors_take_both_sides():
    found = order_plates(graph(FORMULAS[2]))
    assert found.layers == {"publisher": 2, "publisher:app": 1, "device": 1}
    assert found.sides == {"publisher": 0, "publisher:app": -1, "device": 1}


def test_nested_factors_stand_above_each_other():
    found = order_plates(graph(FORMULAS[5]))
    assert sorted(found.layers.values()) == [1, 2, 3, 4, 5]
    assert set(found.sides.values()) == {0}


def test_many_crossed_factors_have_an_arrangement():
    found = order_plates(graph("y ~ 1 + " + " + ".join(f"(1 | g{i})" for i in range(14))))
    assert max(found.layers.values()) == 7


@pytest.mark.full
def test_what_rectangles_cannot_show_is_refused():
    with pytest.raises(ArgumentError, match=r"to_dot\(\)"):
        order_plates(graph("y ~ 1 + (1 | a * b * c * d)"))
