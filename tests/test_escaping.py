"""Names with special characters are shown as they are, in every form that a fit is shown in."""

from __future__ import annotations

import html
import itertools
import re
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from tiers import but_for

import mixedfx as mfx
from mixedfx._escaping import latex_text, markdown_text

mpl.use("Agg")
from matplotlib import pyplot as plt

NAMES = ["a_b", "x*y*", "$x$", "<b>", "100%", "a|b", '"q"', r"back\slash", "Größe ½", "a#b&c~{d}^2"]
NAMED = ("$x$", "g")  # the case of the default tier
every_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def fit_of():
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=60) + np.repeat(2 * rng.normal(size=6), 10),
            "x": rng.normal(size=60),
            "g": np.repeat(["$l_1$", "<i>", "*b*", "d|e", "f_g", "h%"], 10),
        }
    )

    def fit(name, role):
        formula = {
            "x": f"y ~ Q({name!r}) + (1 | g)",
            "g": f"y ~ x + (1 | Q({name!r}))",
            "y": f"Q({name!r}) ~ x + (1 | g)",
        }[role]
        return mfx.lmer(formula, data.rename(columns={role: name}))

    return fit


@pytest.mark.full
@every_name
@pytest.mark.parametrize("role", ["x", "g"])
def test_markdown_shows_the_name_and_no_cell_more(fit_of, name, role):
    rows = mfx.table({name: fit_of(name, role)}).to_markdown().splitlines()
    counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert counts == {3}
    assert markdown_text(name) in rows[0]


@pytest.mark.full
@every_name
def test_html_is_text_that_mathjax_leaves_alone(fit_of, name):
    shown = fit_of(name, "x")._repr_html_()
    assert shown.startswith('<div class="tex2jax_ignore mathjax_ignore">')
    # A formula quotes names as Python does.
    assert any(html.escape(text) in shown for text in (name, repr(name)[1:-1]))
    if "<" in name:
        assert name not in shown


@every_name
def test_latex_has_no_character_that_ends_a_cell_or_a_line(fit_of, name):
    text = mfx.table({name: fit_of(name, "x")}).to_latex()
    head = text.splitlines()[2]
    # What tabulate writes for three of the characters.
    written = latex_text(name).replace(r"\textasciicircum{}", r"\^{}")
    for sign, command in (("<", r"\textless{}"), (">", r"\textgreater{}")):
        written = written.replace(command, rf"\ensuremath{{{sign}}}")
    assert written in head
    assert len(re.findall(r"(?<!\\)&", head)) == 1
    assert not re.search(r"(?<!\\)[%#$]", text)


@pytest.mark.full
@every_name
@pytest.mark.parametrize("role", ["x", "g", "y"])
def test_an_equation_has_dollars_around_its_mathematics_alone(fit_of, name, role):
    shown = fit_of(name, role).equation()._repr_latex_()
    assert len(re.findall(r"(?<!\\)\$", shown)) % 2 == 0
    # Between pairs of dollars, what is no mathematics has no character that LaTeX reads.
    prose = re.sub(r"(?<!\\)(\$\$?)(.*?)(?<!\\)\1", "", shown, flags=re.DOTALL)
    assert not re.search(r"[_%#^&{}]", prose.replace(r"\$", ""))


@every_name
def test_a_graph_as_text_has_the_name_in_quotes(fit_of, name):
    graph = fit_of(name, "g").graph()
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert f'label="{quoted} i (6)"' in graph.to_dot()
    for line in graph.to_mermaid().splitlines():
        assert line.count('"') in (0, 2)
    assert markdown_text(graph.reason) in graph._repr_markdown_()


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "role"),
    but_for(
        itertools.product(["$x$", "a_{1}^2", r"back\slash", "two\nlines"], "xgy"), [("$x$", "g")]
    ),
)
def test_pictures_show_names_without_setting_them_as_mathematics(fit_of, name, role):
    fit = fit_of(name, role)
    group = fit.formula.groups[0]
    pictures = [
        fit.plot.caterpillar(),
        fit.plot.shrinkage(),
        fit.plot.fitted(),
        fit.plot.coefficients(),
        fit.plot.variance(),
        fit.plot.residuals("group"),
        fit.plot.qq(group),
        fit.plot.influence(group),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of glyphs that a font does not have
        fit.plot.graph().figure.canvas.draw()
    for axes in pictures:
        figure = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()[0].figure
        for text in figure.findobj(Text):
            assert not text._preprocess_math(text.get_text())[1], text.get_text()
    plt.close("all")


def test_a_line_break_in_a_name_ends_no_row():
    assert (markdown_text("a\nb"), latex_text("a\nb")) == ("a b", "a b")
