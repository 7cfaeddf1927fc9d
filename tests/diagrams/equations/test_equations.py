"""Formula to equations: level by level, twice spelled, with symbols or with estimates.

Source of truth: the equations as textbooks write them, here in full.
"""

from __future__ import annotations

import re

import pytest

import mixedfx as mfx
from mixedfx.diagrams.equations.levels import equation
from mixedfx.diagrams.equations.values import Columns, Estimates, RowTerms
from mixedfx.errors import ArgumentError, FormulaError

SCHOOLS = "y ~ hours + (1 | state/district/school/classroom) + (1 | ses)"
CRASHES = "crashes ~ 1 + (1 | publisher/app) + (1 | device)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
PSYCH = "y ~ cond + (cond | subj) + (cond | item)"
ODD = "Q('share_%') ~ Q('a#b&c') * C(f) + (C(f) | Q('my $ group'))"
MANY = "y ~ " + " + ".join(f"covariate{i}" for i in range(9)) + " + (1 | g)"
FORMULAS = ["y ~ 1", SCHOOLS, CRASHES, SLEEP, PSYCH, ODD, MANY, "y ~ x + (a + b + c || g/h)"]

every_formula = pytest.mark.parametrize("formula", FORMULAS)

SLEEP_ESTIMATES = Estimates(
    {"Intercept": 251.405, "Days": 10.467},
    [{"Intercept": 24.741, "Days": 5.922}],
    25.592,
    [{("Intercept", "Days"): 0.0656}],
)


def lines(formula, **options):
    """Equations with single blanks, as their columns are a matter of looks."""
    return [" ".join(line.split()) for line in equation(formula, **options).unicode.splitlines()]


# ---------------------------------------------------------------- the models of the notebooks


def test_partial_pooling():
    assert lines("rating ~ 1 + (1 | friend)") == [
        "ratingᵢⱼ | Rᵢ ~ N(Rᵢ, σ²)",
        "Rᵢ ~ N(R, σ_friend²)",
    ]


def test_nested_levels_follow_each_other_outwards():
    assert lines(SCHOOLS) == [
        "yᵢⱼₖₗₘₙ | μᵢⱼₖₗ, bₘ ~ N(μᵢⱼₖₗ + bₘ + β₁ hoursᵢⱼₖₗₘₙ, σ²)",
        "μᵢⱼₖₗ | μᵢⱼₖ ~ N(μᵢⱼₖ, σ_classroom²)",
        "μᵢⱼₖ | μᵢⱼ ~ N(μᵢⱼ, σ_school²)",
        "μᵢⱼ | μᵢ ~ N(μᵢ, σ_district²)",
        "μᵢ ~ N(μ, σ_state²)",
        "bₘ ~ N(0, σ_ses²)",
    ]


def test_nested_and_crossed():
    assert lines(CRASHES) == [
        "crashesᵢⱼₖₗ | Cᵢⱼ, bₖ ~ N(Cᵢⱼ + bₖ, σ²)",
        "Cᵢⱼ | Cᵢ ~ N(Cᵢ, σ_app²)",
        "Cᵢ ~ N(C, σ_publisher²)",
        "bₖ ~ N(0, σ_device²)",
    ]


def test_slopes():
    assert lines(SLEEP) == [
        "Reactionᵢⱼ | bᵢ ~ N(β₀ + b₀ᵢ + (β₁ + b₁ᵢ) Daysᵢⱼ, σ²)",
        "bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_Subject)",
        "Σ_Subject = ⎡σ_Intercept² ρ σ_Intercept σ_Days⎤",
        "⎣ρ σ_Intercept σ_Days σ_Days² ⎦",
    ]


def test_crossed_slopes():
    assert lines(PSYCH)[:3] == [
        "yᵢⱼₖ | bᵢ, cⱼ ~ N(β₀ + b₀ᵢ + c₀ⱼ + (β₁ + b₁ᵢ + c₁ⱼ) condᵢⱼₖ, σ²)",
        "bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_subj)",
        "Σ_subj = ⎡σ_subj,Intercept² ρ_subj σ_subj,Intercept σ_subj,cond⎤",
    ]


def test_the_latex_of_partial_pooling():
    assert equation("rating ~ 1 + (1 | friend)").latex == (
        "\\begin{aligned}\n"
        r"\mathrm{rating}_{ij} \mid R_{i} &\sim \mathcal{N}(R_{i},\, \sigma^2) \\"
        "\n"
        r"R_{i} &\sim \mathcal{N}(R,\, \sigma_{\mathrm{friend}}^2)"
        "\n\\end{aligned}"
    )


def test_the_latex_of_a_covariance_matrix():
    assert (
        r"\Sigma_{\mathrm{Subject}} &= \begin{bmatrix} \sigma_{\mathrm{Intercept}}^2 & "
        r"\rho \,\sigma_{\mathrm{Intercept}} \,\sigma_{\mathrm{Days}} \\ "
    ) in equation(SLEEP).latex


# ---------------------------------------------------------------- other terms


def test_a_diagonal_term():
    assert lines("y ~ x + (x || g)")[1:] == [
        "bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_g)",
        "Σ_g = diag(σ_Intercept², σ_x²)",
    ]


def test_three_effects_have_a_matrix_of_correlations():
    assert lines("y ~ x + z + (x + z | g)")[1:] == [
        "bᵢ = (b₀ᵢ, b₁ᵢ, b₂ᵢ) ~ N(0, Σ_g)",
        "Σ_g = D_g P_g D_g",
        "D_g = diag(σ_Intercept, σ_x, σ_z)",
        "P_g = ⎡1 ⎤",
        "⎢ρ₁₀ 1 ⎥",
        "⎣ρ₂₀ ρ₂₁ 1⎦",
    ]


def test_two_terms_of_one_group():
    assert lines("y ~ x + (1 | g) + (0 + x | g)") == [
        "yᵢⱼ | bᵢ, cᵢ ~ N(β₀ + bᵢ + (β₁ + cᵢ) xᵢⱼ, σ²)",
        "bᵢ ~ N(0, σ_g²)",
        "cᵢ ~ N(0, σ_x²)",
    ]


def test_nested_vectors():
    found = lines("y ~ x + (x | p/q)")
    assert "bᵢⱼ = (b₀ᵢⱼ, b₁ᵢⱼ) | bᵢ ~ N(bᵢ, Σ_q)" in found
    assert "bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_p)" in found


def test_cells_scatter_around_a_sum():
    assert lines("y ~ 1 + (1 | p) + (1 | q) + (1 | p:q)")[:2] == [
        "yᵢⱼₖ | μᵢⱼ ~ N(μᵢⱼ, σ²)",
        "μᵢⱼ | μᵢ, bⱼ ~ N(μᵢ + bⱼ, σ_p:q²)",
    ]


def test_a_slope_without_a_fixed_one():
    assert lines("y ~ 1 + (0 + x | g)")[0] == "yᵢⱼ | bᵢ ~ N(β₀ + bᵢ xᵢⱼ, σ²)"


def test_no_random_term():
    assert lines("y ~ 0 + x + x:z") == ["yᵢ ~ N(β₁ xᵢ + β₂ xᵢ·zᵢ, σ²)"]


def test_no_term_at_all():
    assert lines("y ~ 0 + (1 | g)") == ["yᵢⱼ | bᵢ ~ N(bᵢ, σ²)", "bᵢ ~ N(0, σ_g²)"]


def test_a_column_has_the_same_number_everywhere():
    assert lines("y ~ x + z + (0 + z + u | g)")[:2] == [
        "yᵢⱼ | bᵢ ~ N(β₀ + β₁ xᵢⱼ + (β₂ + b₂ᵢ) zᵢⱼ + b₃ᵢ uᵢⱼ, σ²)",
        "bᵢ = (b₂ᵢ, b₃ᵢ) ~ N(0, Σ_g)",
    ]


def test_nesting_found_in_the_data():
    found = lines("y ~ 1 + (1 | batch) + (1 | sample)", nested={"sample": "batch"})
    assert found[1] == "μᵢⱼ | μᵢ ~ N(μᵢ, σ_sample²)"


def test_weights_divide_the_variance():
    assert lines("y ~ 1", row_terms=RowTerms(weights=True)) == ["yᵢ ~ N(β₀, σ²/wᵢ)"]
    assert lines("y ~ 1", row_terms=RowTerms(weights="size")) == ["yᵢ ~ N(β₀, σ²/sizeᵢ)"]


def test_an_offset_is_added():
    assert lines("y ~ 1", row_terms=RowTerms(offset=True)) == ["yᵢ ~ N(β₀ + offsetᵢ, σ²)"]
    assert lines("y ~ 1", row_terms=RowTerms(offset="known")) == ["yᵢ ~ N(β₀ + knownᵢ, σ²)"]


def test_a_long_mean_has_lines_of_its_own():
    found = equation(MANY)
    assert lines(MANY)[0] == "yᵢⱼ | μᵢ ~ N(ηᵢⱼ, σ²)"
    assert max(map(len, found.unicode.splitlines())) <= 80
    assert all(f"β{n} covariate{i}ᵢⱼ" in found.unicode for i, n in enumerate("₁₂₃₄₅₆₇₈₉"))


# ---------------------------------------------------------------- names


def test_expressions_are_names_of_columns():
    assert lines("np.log(y) ~ I(x**2) + Q('odd name')") == [
        "np.log(y)ᵢ ~ N(β₀ + β₁ (x ** 2)ᵢ + β₂ odd nameᵢ, σ²)"
    ]


def test_signs_of_latex_are_escaped():
    latex = equation("Q('share_%') ~ Q('a#b&c$') + (1 | Q('{g}'))").latex
    for name in (r"share\_\%", r"a\#b\&c\$", r"\{g\}"):
        assert rf"\mathrm{{{name}}}" in latex


@every_formula
def test_latex_has_balanced_braces_and_environments(formula):
    latex = equation(formula, row_terms=RowTerms(weights=True, offset=True)).latex
    bare = re.sub(r"\\[{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", latex).count("bmatrix") == latex.count(r"\end{bmatrix}")
    assert not re.search(r"(?<!\\)[%#$]", latex)


@every_formula
def test_latex_has_one_alignment_mark_a_line(formula):
    latex = equation(formula).latex
    body = re.sub(r"\\begin\{bmatrix\}.*?\\end\{bmatrix\}", "", latex)
    marks = [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()[1:-1]]
    assert set(marks) == {1}


@every_formula
def test_the_signs_stand_below_each_other(formula):
    found = equation(formula)
    heads = [f" {line.sign} {line.right[0]}" for line in found.lines]
    shown = [s for s in found.unicode.splitlines() if any(s.endswith(h) for h in heads)]
    places = {s.index(h) for s, h in zip(shown, heads, strict=True)}
    assert len(places) == 1


def test_indices_are_explained():
    assert "where i numbers the levels of publisher, j those of app, k those of device and l" in (
        str(equation(CRASHES)).replace("\n", " ")
    )
    assert str(equation("y ~ x")).endswith("where i numbers the rows.")


def test_a_notebook_sets_the_equations():
    shown = equation(CRASHES)._repr_latex_()
    assert shown.startswith("$$\n\\begin{aligned}")
    assert "where $i$ numbers the levels of publisher" in shown
    assert "the mean of device cannot be told" in shown


# ---------------------------------------------------------------- notes


def test_it_says_which_mean_is_folded_in():
    assert equation(CRASHES).notes == (
        "Data tell only one overall mean: the mean of device cannot be told from the intercept C "
        "and is folded into it, so its effects scatter around zero.",
    )


def test_it_says_which_means_are_folded_in():
    assert (
        "the means of subj and item cannot be told from the intercept β₀ and are folded"
        in (equation(PSYCH).notes[0])
    )


@pytest.mark.parametrize(
    "formula",
    ["rating ~ 1 + (1 | friend)", SLEEP, "y ~ x + (x | a/b)", "y ~ 0 + x + (1 | a) + (1 | b)"],
)
def test_it_says_nothing_where_no_mean_is_folded_in(formula):
    assert equation(formula).notes == ()


def test_notes_are_printed_below():
    assert str(equation(CRASHES)).splitlines()[-1].endswith("scatter around zero.")


# ---------------------------------------------------------------- columns


def test_a_categorical_column_is_written_by_name():
    found = equation("y ~ x + C(f)")
    assert found.unicode == "yᵢ ~ N(β₀ + β₁ xᵢ + β_f fᵢ, σ²)"
    assert found.notes == ("f stands for several columns and coefficients, which only data tell.",)


def test_the_matrix_of_a_categorical_term_is_not_written_out():
    found = equation("y ~ C(f) + (C(f) | g)")
    assert found.unicode.splitlines()[1:] == ["bᵢ = (b₀ᵢ, b_f,i) ~ N(0, Σ_g)"]
    assert "Σ_g is the covariance matrix of the effects of Intercept and f." in found.notes


def test_data_tell_the_columns():
    columns = Columns(["Intercept", "f[T.b]", "f[T.c]"], [["Intercept", "f[T.b]"]])
    assert lines("y ~ C(f) + (C(f) | g)", columns=columns)[0] == (
        "yᵢⱼ | bᵢ ~ N(β₀ + b₀ᵢ + (β₁ + b₁ᵢ) f[T.b]ᵢⱼ + β₂ f[T.c]ᵢⱼ, σ²)"
    )


def test_a_term_of_many_columns_is_named():
    names = [f"f[{c}]" for c in "abcdefghij"]
    found = equation("y ~ 1 + (0 + f | g)", columns=Columns(["Intercept"], [names]))
    assert "bᵢ = (b₁ᵢ, …, b₁₀ᵢ) ~ N(0, Σ_g)" in found.unicode
    assert found.notes[0].startswith("Σ_g is the covariance matrix of the effects of f[a], ")


# ---------------------------------------------------------------- estimates


def test_estimates_take_the_places_of_symbols():
    assert lines(SLEEP, estimates=SLEEP_ESTIMATES) == [
        "Reactionᵢⱼ | bᵢ ~ N(251.4 + b₀ᵢ + (10.47 + b₁ᵢ) Daysᵢⱼ, 25.59²)",
        "bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_Subject)",
        "Σ_Subject = ⎡24.74² 0.0656·24.74·5.922⎤",
        "⎣0.0656·24.74·5.922 5.922² ⎦",
    ]


def test_digits_are_significant_ones():
    found = lines(SLEEP, estimates=SLEEP_ESTIMATES, digits=2)[0]
    assert found == "Reactionᵢⱼ | bᵢ ~ N(251 + b₀ᵢ + (10 + b₁ᵢ) Daysᵢⱼ, 26²)"


def test_negative_coefficients_are_subtracted():
    estimates = Estimates({"Intercept": -1.5, "x": -2.0, "z": 3.0}, [], 1.0)
    assert lines("y ~ x + z", estimates=estimates) == ["yᵢ ~ N(−1.5 − 2 xᵢ + 3 zᵢ, 1²)"]


def test_the_overall_mean_may_be_negative():
    estimates = Estimates({"Intercept": -1.5}, [{"Intercept": 0.0}], 1.0)
    assert lines("y ~ 1 + (1 | g)", estimates=estimates)[1] == "μᵢ ~ N(−1.5, 0²)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1234567.0, "1234567"),
        (0.00012345, "0.0001234"),
        (1.5e-7, "1.5×10⁻⁷"),
        (2e12, "2×10¹²"),
        (0.0, "0"),
    ],
)
def test_numbers_have_exponents_only_where_they_must(value, expected):
    estimates = Estimates({"Intercept": value}, [], 1.0)
    assert lines("y ~ 1", estimates=estimates) == [f"yᵢ ~ N({expected}, 1²)"]


def test_left_out_columns_are_left_out():
    found = equation("y ~ x + z", estimates=Estimates({"x": 2.0, "z": float("nan")}, [], 1.0))
    assert found.unicode == "yᵢ ~ N(2 xᵢ, 1²)"
    assert found.notes == ("Left out, as other columns imply it: z.",)


def test_correlations_may_be_given_either_way_round():
    turned = Estimates(
        SLEEP_ESTIMATES.fixed, SLEEP_ESTIMATES.sds, 25.592, [{("Days", "Intercept"): 0.0656}]
    )
    assert equation(SLEEP, estimates=turned) == equation(SLEEP, estimates=SLEEP_ESTIMATES)


def test_an_undefined_correlation_is_written_as_zero():
    estimates = Estimates(
        {"Intercept": 1.0, "x": 1.0},
        [{"Intercept": 2.0, "x": 0.0}],
        1.0,
        [{("Intercept", "x"): float("nan")}],
    )
    assert "0·2·0" in equation("y ~ x + (x | g)", estimates=estimates).unicode


def test_a_fit_fills_in_its_estimates():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    sds = fit.varcorr.set_index("group")["sdcor"]
    estimates = Estimates(fit.params.to_dict(), [{"Intercept": sds["Batch"]}], fit.sigma)
    # lme4: intercept 1527.5, standard deviations 42.00 and 49.51.
    assert lines(fit.formula, estimates=estimates) == [
        "Yieldᵢⱼ | Yᵢ ~ N(Yᵢ, 49.51²)",
        "Yᵢ ~ N(1528, 42²)",
    ]


# ---------------------------------------------------------------- errors


def test_a_dot_needs_data():
    with pytest.raises(FormulaError, match="only data tell"):
        equation("y ~ . + (1 | g)")


def test_columns_and_estimates_are_one_too_many():
    with pytest.raises(ArgumentError, match="pass only one"):
        equation(SLEEP, columns=SLEEP_ESTIMATES.columns, estimates=SLEEP_ESTIMATES)


def test_each_random_term_needs_its_estimates():
    with pytest.raises(ArgumentError, match=r"for 1 random terms, but .* has 2"):
        equation(PSYCH, estimates=SLEEP_ESTIMATES)


def test_each_pair_needs_its_correlation():
    estimates = Estimates(SLEEP_ESTIMATES.fixed, SLEEP_ESTIMATES.sds, 25.592)
    with pytest.raises(ArgumentError, match="correlation of 'Intercept' and 'Days'"):
        equation(SLEEP, estimates=estimates)


def test_an_intercept_needs_its_estimate():
    estimates = Estimates({}, [{"Intercept": 1.0}], 1.0)
    with pytest.raises(ArgumentError, match="has an intercept"):
        equation("y ~ 1 + (1 | g)", estimates=estimates)
