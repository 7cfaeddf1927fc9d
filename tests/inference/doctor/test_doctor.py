"""What the doctor finds in known and simulated models, and that right models are left alone."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx import errors
from mixedfx.inference.doctor.advice import _tried
from mixedfx.inference.doctor.called_fits import fit_of_call
from mixedfx.inference.doctor.levels import influence_of_levels
from mixedfx.inference.doctor.models import ModelsOfRows
from mixedfx.inference.doctor.refits import Clock, without_levels


def _rows(kind="right", seed=1, levels=30, m=8):
    """Rows of a random intercept with covariates within and between levels, and one fault."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), m)
    x, w = rng.normal(size=levels * m), rng.normal(size=levels)[g]
    f = rng.choice(list("abc"), levels * m)
    b, e = rng.normal(size=levels)[g], rng.normal(size=levels * m)
    if kind == "slopes":
        b = b + 0.7 * rng.normal(size=levels)[g] * x
    if kind == "between":
        x, b = x + w, b + 1.5 * w
    if kind == "variances":
        e = e * np.where(f == "a", 2.0, 1.0)
    if kind == "ar1":
        e = e.reshape(levels, m)
        for k in range(1, m):
            e[:, k] = 0.6 * e[:, k - 1] + 0.8 * e[:, k]
        e = e.ravel()
    columns = {"g": g, "x": x, "w": w, "t": np.tile(range(m), levels), "f": f}
    return pd.DataFrame({**columns, "y": 1.0 + 0.5 * x + b + e})


def _quietly(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.MixedfxWarning)
        return function(*arguments, **options)


@functools.lru_cache
def _found(kind, formula="y ~ x + f + t + (1 | g)"):
    return _quietly(mfx.lmer, formula, _rows(kind), engine="profiled").doctor()


def _problem(found, kind):
    return next(w for w in found.weaknesses if (w.severity, w.kind) == ("problem", kind))


# ---------------------------------------------------------------- the same model, other models


@pytest.mark.full
def test_the_same_model_from_elsewhere_is_the_same():
    table = _found("right").table
    same = table[table["kind"] == "same model"]
    assert set(same["refit"]) == {"start 1", "start 2", "engine statsmodels", "centred and scaled"}
    assert same["shift"].abs().max() < 1e-3
    refits = _found("right").refits.set_index("refit")
    assert refits.loc[list(set(same["refit"])), "change"].abs().max() < 1e-4


@pytest.mark.full
def test_simpler_models_are_those_of_their_formulas():
    data = _rows("slopes")
    found = _found("slopes", "y ~ x + (x | g)")
    expected = {
        "without correlations in (x | g)": "y ~ x + (x || g)",
        "without x in (x | g)": "y ~ x + (1 | g)",
    }
    refits = found.refits.set_index("refit")
    for name, formula in expected.items():
        fit = mfx.lmer(formula, data)
        assert refits.loc[name, "formula"] == formula
        assert refits.loc[name, "log_likelihood"] == pytest.approx(fit.llf, abs=1e-6)
        tests = found.table[found.table["refit"] == name].set_index("term")
        assert tests.loc["x", "p_value"] == pytest.approx(fit.pvalues["x"], rel=1e-4)
    assert found.random.set_index("refit").loc["without x in (x | g)", "supported"]


@pytest.mark.full
def test_a_variance_of_zero_is_left_out():
    fit = _quietly(mfx.lmer, "Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    found = fit.doctor()
    assert found.recommended == "Yield ~ 1"
    assert found.to_try == ('mfx.lmer("Yield ~ 1", data)',)
    assert found.random.loc[0, "p_value"] == 1.0


@pytest.mark.full
def test_a_maximal_model_is_reduced_to_what_simulated_the_rows():
    found = _found("slopes", "y ~ x + f + (x + f | g)")
    assert found.recommended in ("y ~ x + f + (x || g)", "y ~ x + f + (x | g)")
    assert any(w.kind == "random effects" for w in found.weaknesses)
    # Followed, there is nothing more to leave out.
    followed = mfx.lmer(found.recommended, _rows("slopes")).doctor()
    assert followed.recommended == found.recommended


@pytest.mark.full
def test_a_small_variance_of_grouped_rows_stays():
    found = _found("right", "y ~ x + (1 | g)")
    assert found.recommended == "y ~ x + (1 | g)"


# ---------------------------------------------------------------- what is wrong


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "check", "code"),
    [
        (
            "between",
            "within and between",
            'mfx.lmer("y ~ x + f + t + group_mean(x, g) + (1 | g)", data)',
        ),
        (
            "variances",
            "heteroscedasticity",
            'mfx.lmer("y ~ x + f + t + (1 | g)", data, dispersion="~ f")',
        ),
        (
            "ar1",
            "autocorrelation",
            'mfx.lmer("y ~ x + f + t + (1 | g)", data, residual="ar1(t | g)")',
        ),
        ("slopes", "random slopes", 'mfx.lmer("y ~ x + f + t + (x | g)", data)'),
    ],
)
def test_what_is_wrong_is_found_and_the_advice_is_tried(kind, check, code):
    found = _found(kind)
    problem = _problem(found, check)
    assert problem.code == code
    assert not found.ok
    # What was tried is the difference in AIC of the two calls by maximum likelihood.
    data = _rows(kind)
    better = eval(code[:-1] + ", reml=False)", {"mfx": mfx, "data": data})
    base = mfx.lmer("y ~ x + f + t + (1 | g)", data, reml=False)
    assert f"AIC {better.aic - base.aic:+.1f}" in problem.tried
    assert better.aic < base.aic - 5.0


# The rows of a fit lack the columns that residual= and dispersion= read; each line was refused
# for one of them, or the residual model was not the one in the text.
@pytest.mark.full
@pytest.mark.parametrize(
    ("of_fit", "formula", "of_advice"),
    [
        ({"dispersion": "~ f"}, "y ~ x + w + (x | g)", {"dispersion": "~ f"}),
        ({"dispersion": "~ f"}, "y ~ x + w + (1 | g)", {"dispersion": "~ f + w"}),
        ({"residual": "ar1(t | g)"}, "y ~ x + w + (x | g)", {"residual": "ar1(t | g)"}),
        (
            {"residual": "ar1(t | g)"},
            "y ~ x + w + (1 | g)",
            {"residual": "ar1(t | g)", "dispersion": "~ w"},
        ),
        (
            {"residual": "ar1(t | g)", "dispersion": "~ f"},
            "y ~ x + w + (1 | g)",
            {"residual": "ar1(t | g)", "dispersion": "~ f + w"},
        ),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else value,
)
def test_advice_is_tried_with_columns_that_only_the_residual_model_reads(
    of_fit, formula, of_advice
):
    data = _rows("ar1", levels=12)
    fit = _quietly(mfx.lmer, "y ~ x + w + (1 | g)", data, **of_fit)
    arguments = ", ".join(f'{name}="{value}"' for name, value in of_advice.items())
    found = fit_of_call(fit.model, f'mfx.lmer("{formula}", data, {arguments})')
    expected = _quietly(mfx.lmer, formula, data, reml=False, **of_advice)
    assert found.solution.deviance == pytest.approx(expected.deviance, abs=1e-5)


# Laplace's approximation of Student's likelihood rises without end here: the AIC where the search
# stopped (-136 against the fit) recommended a model that has no maximum.
@pytest.mark.full
def test_the_aic_of_a_fit_that_did_not_converge_is_not_given():
    data = _rows("right", levels=18, m=7)
    data["y"] = np.exp(1.5 * data["y"])
    fit = _quietly(mfx.lmer, "y ~ x + (1 | g)", data)
    code = 'mfx.glmer("y ~ x + (1 | g)", data, family="student")'
    assert not fit_of_call(fit.model, code).optimizer_result.converged
    tried = _tried(fit.model, code, fit.aic, Clock(np.inf, ModelsOfRows()))
    assert tried.text.startswith("Tried, and it did not converge: the likelihood has no maximum")
    assert not tried.helps


# log(y) of a normal response with a check that fails: AIC +29.9, and yet a call to copy.
@pytest.mark.full
def test_what_describes_the_data_no_better_is_no_call_to_copy():
    data = _rows("right")
    data["y"] += 20.0
    fit = _quietly(mfx.lmer, "y ~ x + f + t + (1 | g)", data)
    code = 'mfx.lmer("log(y) ~ x + f + t + (1 | g)", data)'
    tried = _tried(
        fit.model,
        code,
        mfx.lmer(str(fit.formula), data, reml=False).aic,
        Clock(np.inf, ModelsOfRows()),
    )
    assert tried.text.startswith("Tried, and no better: AIC +")
    assert not tried.helps


@pytest.mark.full
def test_effects_within_and_between_are_those_of_mundlaks_model():
    # R: lmer(y ~ x + ave(x, g) + ...) has the within effect as the coefficient of x.
    data = _rows("between")
    fit = mfx.lmer("y ~ x + f + t + group_mean(x, g) + (1 | g)", data)
    table = _found("between").checks.table
    row = table[table["check"] == "within and between"].iloc[0]
    assert row["p_value"] == pytest.approx(fit.pvalues["group_mean(x, g)"], rel=1e-4)
    within = fit.params["x"]
    assert f"is {within:.3g}" in row["advice"]


@pytest.mark.full
def test_rows_have_the_order_that_is_given():
    data = _rows("ar1")
    fit = mfx.lmer("y ~ x + (1 | g)", data)
    assert "autocorrelation" not in set(fit.check().table["check"])
    found = fit.doctor(order=data["t"])
    assert found.checks.table.set_index("check").loc["autocorrelation", "what"] == "t within g"
    assert _problem(found, "autocorrelation")


@pytest.mark.full
def test_influential_subjects_of_sleepstudy_are_335_and_308():
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    clock = Clock(60.0, ModelsOfRows())
    influence = influence_of_levels(fit.model, clock)
    worst = influence.nlargest(2, "largest_shift")
    assert worst["level"].tolist() == ["335", "308"]
    assert worst["of"].tolist() == ["Days", "Days"]
    # Refitted without the subject, by one Newton step to a percent.
    without = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep[sleep["Subject"] != "335"])
    shift = (without.params["Days"] - fit.params["Days"]) / fit.bse["Days"]
    assert worst["largest_shift"].iloc[0] == pytest.approx(shift, rel=0.01)
    factor = ("Subject", fit.model.rows.codes_of("Subject"))
    refit = next(without_levels(fit.model, factor, [(int(worst["number"].iloc[0]), "335")], clock))
    estimate = refit.tests.loc["Days", "estimate"]
    assert estimate == pytest.approx(without.params["Days"], rel=1e-6)


@pytest.mark.full
def test_collinear_terms_are_noted():
    data = _rows().assign(z=lambda d: d["x"] + 0.05 * np.sin(np.arange(len(d))))
    found = mfx.lmer("y ~ x + z + (1 | g)", data).doctor()
    assert {w.where for w in found.weaknesses if w.kind == "collinearity"} == {"x", "z"}


# ---------------------------------------------------------------- all kinds of fits


def _counts():
    rng, data = np.random.default_rng(2), _rows()
    mean = np.exp(0.3 * data["x"] + 0.4 * rng.normal(size=30)[data["g"]])
    return data.assign(k=rng.poisson(mean), h=(data["g"] * 7 + data["t"]) % 11)


MODELS = {
    "generalised": lambda: mfx.glmer("k ~ x + (1 | g)", _counts(), "poisson"),
    "zero part": lambda: mfx.glmer("k ~ x + (1 | g)", _counts(), "poisson", zero_inflation="~ 1"),
    "crossed": lambda: mfx.lmer("y ~ x + (1 | g) + (1 | h)", _counts()),
    "variances": lambda: mfx.lmer("y ~ x + (1 | g)", _counts(), dispersion="~ f"),
    "residuals": lambda: mfx.lmer("y ~ x + (1 | g)", _counts(), residual="ar1(t | g)"),
    "no terms": lambda: mfx.lmer("y ~ x + f", _counts()),
    "weights": lambda: mfx.lmer("y ~ x + (1 | g)", _counts(), weights=1.0 + _counts()["t"]),
    "offset": lambda: mfx.lmer("y ~ x + offset(0 * t) + (1 | g)", _counts()),
    "expressions": lambda: mfx.lmer("y ~ np.exp(x / 4) + (1 | g)", _counts()),
    "ordered": lambda: mfx.glmer("k > 1 ~ x + (1 | g)", _counts(), "cumulative"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in MODELS if n != "ordered"])
def test_every_kind_of_fit_is_examined_without_a_warning(name):
    fit = _quietly(MODELS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit.doctor()
        assert str(found)
        assert "<p>" in found._repr_html_()
    own = found.table[found.table["refit"] == "fit"].set_index("term")
    np.testing.assert_allclose(own["p_value"], fit.pvalues, rtol=1e-10)
    same = found.table[(found.table["kind"] == "same model") & (found.table["refit"] != "fit")]
    assert same["shift"].abs().max() < 0.02 or not len(same)


@pytest.mark.full
def test_time_that_is_over_is_said():
    found = mfx.lmer("y ~ x + (x | g)", _rows("slopes")).doctor(max_seconds=1e-6)
    note = next(w for w in found.weaknesses if w.kind == "time")
    assert "start 1" in note.what
    assert (found.refits["note"].iloc[1:] == "left out: max_seconds").all()


@pytest.mark.full
def test_levels_that_are_too_many_are_not_left_out(monkeypatch):
    monkeypatch.setattr("mixedfx.inference.doctor.levels._MOST_DELETIONS", 100)
    found = mfx.lmer("y ~ x + (1 | g)", _rows()).doctor()
    assert found.influence.empty
    assert "fit.influence('g')" in next(w for w in found.weaknesses if w.kind == "time").to_do


@pytest.mark.full
def test_the_function_is_the_method_and_bad_input_is_named():
    fit = mfx.lmer("y ~ x + (1 | g)", _rows())
    with pytest.raises(errors.ArgumentError, match="takes a fit"):
        mfx.doctor("fit")
    with pytest.raises(errors.ArgumentError, match="conf_level"):
        mfx.doctor(fit, conf_level=95)
    with pytest.raises(errors.ArgumentError, match="max_seconds"):
        fit.doctor(max_seconds=0)
    with pytest.raises(errors.ArgumentError, match="order='when' is no column"):
        fit.doctor(order="when")
    with pytest.raises(errors.ArgumentError, match="order= has 3 values"):
        fit.doctor(order=[1, 2, 3])
    with pytest.raises(errors.RowsNotInMemory):
        fit.slim().doctor()
    normal = mfx.priors.Normal(0, 1)
    with pytest.raises(errors.ArgumentError, match="priors"):
        mfx.lmer("y ~ x + (1 | g)", _rows(), priors={"x": normal}).doctor()


@pytest.mark.full
def test_the_page_has_six_panels_with_the_weak_ones_in_red():
    plt = pytest.importorskip("matplotlib.pyplot")
    found = _found("variances")
    fit = mfx.lmer("y ~ x + f + t + (1 | g)", _rows("variances"), engine="profiled")
    axes = fit.plot.doctor(found)
    titles = {ax.get_title(loc="left"): ax for ax in axes}
    assert list(titles)[:3] == ["Coefficients, fitted again", "Random effects", "Influence of g"]
    assert "Spread of residuals by f" in titles
    assert len(axes) == 6
    plt.close("all")


# ---------------------------------------------------------------- right models


def _share_with_problems(formula, kind, n):
    found = []
    for seed in range(n):
        fit = _quietly(mfx.lmer, formula, _rows(kind, seed=500 + seed), engine="profiled")
        found.append(not fit.doctor(rng=seed).ok)
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "kind"),
    [("y ~ x + w + f + t + (1 | g)", "right"), ("y ~ x + w + f + t + (x | g)", "slopes")],
)
def test_right_models_have_problems_no_more_often_than_the_level(formula, kind):
    # 120 fits: a share of 0.05 has a standard error of 0.02.
    assert _share_with_problems(formula, kind, 120) <= 0.1


@pytest.mark.full
def test_a_right_model_has_no_problem():
    assert _found("right", "y ~ x + w + f + t + (1 | g)").ok


@pytest.mark.parametrize(
    ("levels", "outcome"),
    [
        (30, "Tried: AIC -"),
        pytest.param(250, "Not tried: random effects of the scale", marks=pytest.mark.full),
    ],
)
def test_random_effects_of_the_scale_are_tried_with_few_levels(levels, outcome):
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(levels), 12), rng.standard_normal(12 * levels)
    spread = np.exp(0.6 * rng.standard_normal(levels)[g])
    y = x + rng.standard_normal(levels)[g] + spread * rng.standard_normal(len(g))
    fit = mfx.lmer("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    found = [w for w in fit.doctor().weaknesses if w.kind == "heteroscedasticity"]
    assert any(outcome in str(w) for w in found)
