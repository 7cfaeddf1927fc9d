"""Entries of structured covariances in equations.

Source of truth: the definitions of the structures, as in tests/dense_search.py, written as text.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.diagrams.equations.entries import covariance_entry

MATERN = "2^(1−ν) / Γ(ν) z^ν K_ν(z), z = ‖s−t‖ / φ"
CORRELATIONS = {
    "cs": "ρ for s ≠ t",
    "ar1": "ρ^|s−t|",
    "toep": "ρ_|s−t|",
    "ad": "∏(s ≤ u < t) ρᵤ for s ≤ t",
}
ENTRIES = {
    "us": "σₛ σₜ ρₛₜ",
    "diag": "σₛ² if s = t, else 0",
    "homdiag": "σ² if s = t, else 0",
    **{name: f"σ² {text}" for name, text in CORRELATIONS.items()},
    **{f"{name}h": f"σₛ σₜ {text}" for name, text in CORRELATIONS.items()},
    "ou": "σ² exp(−λ |s−t|)",
    "exp": "σ² exp(−‖s−t‖ / φ)",
    "gau": "σ² exp(−(‖s−t‖ / φ)²)",
    "mat": f"σ² {MATERN}",
}
DATA = pd.DataFrame(
    {
        "id": np.repeat([f"s{i}" for i in range(12)], 3),
        "visit": np.tile([1, 2, 4], 12),
        "y": np.random.default_rng(5).normal(size=36),
    }
)


def _fit(formula, **options):
    return mfx.lmer(formula, DATA, **options)


def test_every_structure_has_a_formula():
    assert set(ENTRIES) == set(STRUCTURES)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_entry_of_a_structure(name):
    entry = covariance_entry(name)
    assert entry.unicode == ENTRIES[name]
    assert entry.latex.count("{") == entry.latex.count("}")
    assert not re.search("[^\x00-\x7f]", entry.latex)


def test_the_latex_of_an_entry():
    assert covariance_entry("ar1").latex == r"\sigma^2 \rho^{|s-t|}"
    assert covariance_entry("toeph", "id").latex == (
        r"\sigma_{\mathrm{id},s} \sigma_{\mathrm{id},t} \rho_{\mathrm{id},|s-t|}"
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["cs", "ar1", "toeph", "ou"])
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_the_equations_of_residuals_have_the_covariance_of_two(name):
    left = "0 + C(visit)" if name == "cs" else "visit"
    equation = _fit("y ~ visit", residual=f"{name}({left} | id)").equation()
    assert f"Cov(εₛ, εₜ) = {ENTRIES[name]}" in str(equation)
    assert r"\operatorname{Cov}(\varepsilon_{s}, \varepsilon_{t}) &= " in equation.latex
    assert ("λ is the rate" in str(equation)) == (name == "ou")


def test_a_structured_term_has_the_entry_of_its_matrix():
    text = " ".join(str(mfx.equation("y ~ x + exp(lon + lat | site)")).split())
    assert "Σ_site[s, t] = σ_site² exp(−‖s−t‖ / φ_site)" in text
    assert "φ_site is the range" in text


@pytest.mark.parametrize("of_fit", [False, True])
def test_effects_at_the_levels_of_a_variable_are_no_slopes(of_fit):
    formula = "y ~ visit + ar1(visit | id)"
    repeated = pd.concat([DATA, DATA.assign(y=DATA["y"] + 1.0)], ignore_index=True)
    written = mfx.lmer(formula, repeated).equation() if of_fit else mfx.equation(formula)
    text = " ".join(str(written).split())
    assert "yᵢⱼ | bᵢ ~ N(β₀ + β₁ visitᵢⱼ + bᵢ[visitᵢⱼ], σ²) bᵢ ~ N(0, Σ_id)" in text
    assert "σ_visit" not in text


def test_a_field_of_all_rows_has_no_index():
    text = " ".join(str(mfx.equation("y ~ 1 + exp(lon + lat | 1)")).split())
    assert text.startswith("yᵢ | b ~ N(β₀ + b[lonᵢ, latᵢ], σ²) b ~ N(0, Σ_1)")
    assert "where i numbers the rows." in text


def test_the_graph_of_effects_at_positions_has_their_covariance():
    labels = [node.label for node in mfx.graph("y ~ x + exp(lon + lat | site)").nodes]
    assert "Σ_site" in labels


def test_independent_residuals_have_no_covariance():
    assert "Cov" not in str(_fit("y ~ visit").equation())
