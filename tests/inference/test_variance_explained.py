"""Shares of variance, collinearity and rank: numbers with a definition, compared with it.

Source of truth: performance's R squared and intraclass correlations, and their definition,
in tests/reference; Fox and Monette's ratio of determinants on whitened columns; eigenvalues of
lme4's covariance matrices.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from generalized_models import GENERALIZED, generalized_fit
from oracle import dense_z, lambdas
from reference_models import FOLDER, REFERENCES, fit_of, group_key, tiered
from scipy import special

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning
from mixedfx.inference.variance_explained import variance_shares

# Searches end within 1e-8 of a deviance, which leaves theta within 1e-5, and shares within:
SHARES = 2e-6
# Two ways to the same sums.
ROUNDING = 1e-10

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
CHECKS = []


def check(function):
    """Register a claim on every reference model."""
    CHECKS.append(function)
    return function


@pytest.mark.full
@pytest.mark.parametrize("name", tiered(REFERENCES))
def test_reference_models(name, subtests):
    for holds in CHECKS:
        with subtests.test(holds.__name__):
            holds(name)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = 150
    g, h = rng.integers(10, size=n), rng.integers(6, size=n)
    x = rng.normal(size=n) + 0.3 * g
    z = 0.7 * x + rng.normal(size=n)
    arm = np.where(z + rng.normal(size=n) > 0, "new", rng.choice(["old", "none"], size=n))
    y = x + rng.normal(size=10)[g] + rng.normal(size=6)[h] * x + rng.normal(size=n)
    w = rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "arm": arm, "g": g, "h": h, "w": w})


# ---------------------------------------------------------------- R squared and ICC


@check
def r2_and_the_intraclass_correlation_are_the_definitions(name):
    fit, direct = fit_of(name, "profiled"), REFERENCES[name]["r2_direct"]
    found = [fit.r2["marginal"], fit.r2["conditional"], fit.icc["total"]]
    expected = [direct["marginal"], direct["conditional"], direct["icc_adjusted"]]
    assert found == pytest.approx(expected, rel=0, abs=SHARES)


# Singular fits have no number there, and some kinds of slopes a wrong one (reference/README.md).
SOUND = [n for n, r in REFERENCES.items() if r["r2_nakagawa"] and r["icc"]["adjusted"] is not None]


@pytest.mark.parametrize("name", tiered(SOUND))
def test_r2_and_the_intraclass_correlation_are_performances(name):
    fit, r2 = fit_of(name, "profiled"), REFERENCES[name]["r2_nakagawa"]
    found = [fit.r2["marginal"], fit.r2["conditional"], fit.icc["total"]]
    expected = [r2["marginal"], r2["conditional"], REFERENCES[name]["icc"]["adjusted"]]
    assert found == pytest.approx(expected, rel=0, abs=SHARES)


@check
def the_parts_of_the_variance_are_the_definitions(name):
    direct = REFERENCES[name]["r2_direct"]
    expected = np.array([direct[part] for part in ("var_fixed", "var_random", "var_residual")])
    shares = variance_shares(fit_of(name, "profiled").model)
    found = np.array([shares.fixed, shares.groups.sum(), shares.residual])
    # Over the whole: for a quarter of the models a part of it is zero.
    whole = expected.sum()
    np.testing.assert_allclose(found / whole, expected / whole, rtol=0, atol=SHARES)


INTERCEPTS = {
    name: reference
    for name, reference in REFERENCES.items()
    if all(effects == ["Intercept"] for _, effects in reference.terms)
}


@pytest.mark.parametrize("name", tiered(INTERCEPTS))
def test_a_random_intercepts_share_is_its_variance_over_lme4s(name):
    reference, fit = REFERENCES[name], fit_of(name, "profiled")
    variances = {group: sd**2 for (group, _), sd in reference.deviations.items()}
    rest = sum(variances.values()) + reference["sigma"] ** 2
    found = {group_key(group): share for group, share in fit.icc.drop("total").items()}
    expected = {group: variance / rest for group, variance in variances.items()}
    assert found == pytest.approx(expected, rel=0, abs=SHARES)


@check
def the_groups_shares_sum_to_the_total(name):
    found = fit_of(name, "profiled").icc
    assert found.drop("total").sum() == pytest.approx(found["total"], abs=ROUNDING)


@check
def groups_are_named_as_in_the_formula(name):
    fit = fit_of(name, "profiled")
    assert list(fit.icc.index) == [*fit.formula.groups, "total"]


def test_a_groups_variance_is_that_of_all_its_terms(data):
    fit = mfx.lmer("y ~ x + (1 | g) + (0 + x | g) + (x | h)", data)
    cov, x = fit.cov_re, data["x"]
    # z'Gz of each group, its mean over the rows.
    expected = {
        group: np.mean(
            G.loc["Intercept", "Intercept"]
            + 2 * G.loc["Intercept", "x"] * x
            + G.loc["x", "x"] * x**2
        )
        for group, G in cov.items()
    }
    assert variance_shares(fit.model).groups.to_dict() == pytest.approx(expected, rel=ROUNDING)


def test_without_random_terms_all_that_is_explained_is_the_fixed_parts(data):
    # sigma^2 has the divisor n - p, the variance of the fitted values n - 1.
    fit, ols = mfx.lmer("y ~ x + z", data), sm.OLS.from_formula("y ~ x + z", data).fit()
    expected = ols.ess / (len(data) - 1) / (ols.ess / (len(data) - 1) + ols.scale)
    assert fit.r2.to_dict() == pytest.approx({"marginal": expected, "conditional": expected})
    assert fit.icc.to_dict() == {"total": 0.0}


def test_shares_do_not_depend_on_the_unit_of_the_response(data):
    one = mfx.lmer("y ~ x + (x | h)", data)
    other = mfx.lmer("y ~ x + (x | h)", data.assign(y=1e4 * data["y"]))
    np.testing.assert_allclose([*one.r2, *one.icc], [*other.r2, *other.icc], rtol=1e-6)


def test_an_offset_is_not_explained_variance(data):
    # It is known, not estimated: as in performance, it is left out of the fixed part.
    moved = data.assign(off=10 * np.sin(np.arange(len(data))))
    plain = mfx.lmer("y ~ x + (1 | g)", data)
    shifted = mfx.lmer("y ~ x + (1 | g)", moved.assign(y=moved["y"] + moved["off"]), offset="off")
    np.testing.assert_allclose(shifted.r2, plain.r2, rtol=1e-6)


def test_a_group_may_be_called_total(data):
    plain = mfx.lmer("y ~ x + (1 | g) + (1 | h)", data)
    fit = mfx.lmer("y ~ x + (1 | total) + (1 | h)", data.rename(columns={"g": "total"}))
    np.testing.assert_allclose(fit.icc, plain.icc, rtol=1e-6)
    np.testing.assert_allclose(fit.glance(), plain.glance(), rtol=1e-6)


# ---------------------------------------------------------------- collinearity


def whitened(fit):
    """``V^-1/2 X`` from the dense V, in any square root of it."""
    design, X = fit.model.design, fit.model.rows.X
    w = np.ones(len(X)) if design.rows.weights is None else design.rows.weights
    V = np.diag(1 / w)
    for random_term, lam in zip(design.rows.random_terms, lambdas(design, fit.theta), strict=True):
        spread = dense_z(random_term) @ np.kron(np.eye(random_term.n_levels), lam)
        V += spread @ spread.T
    return np.linalg.solve(np.linalg.cholesky(V), X)


def generalised(X, terms):
    """Fox and Monette's det(R11) det(R22) / det(R), of columns less their part along the first."""
    rest = X - np.outer(X[:, 0], X[:, 0] @ X / (X[:, 0] @ X[:, 0]))
    R = rest[:, 1:].T @ rest[:, 1:]
    found = {}
    for name, mine in terms.items():
        others = [i for i in range(len(R)) if i not in mine]
        det = [np.linalg.det(R[np.ix_(at, at)]) for at in (mine, others)]
        found[name] = det[0] * det[1] / np.linalg.det(R)
    return found


@pytest.mark.parametrize("weights", [None, "w"])
def test_inflation_of_a_regression_is_one_over_what_the_others_leave(data, weights):
    # The classic definition: 1 / (1 - R^2) of the column on the others.
    fit = mfx.lmer("y ~ x + z + np.sin(x)", data, weights=weights)
    found = fit.vif()["vif"]
    columns = {"x": "z + np.sin(x)", "z": "x + np.sin(x)", "np.sin(x)": "x + z"}
    w = np.ones(len(data)) if weights is None else data[weights]
    for name, others in columns.items():
        aside = sm.WLS.from_formula(f"{name} ~ {others}", data, weights=w).fit()
        assert found[name] == pytest.approx(1 / (1 - aside.rsquared), rel=ROUNDING)


TERMS = {"x": [0], "z": [1], "arm": [2, 3]}
ARMS = ("arm[T.none]", "arm[T.old]")
VIF = {
    "regression": ("y ~ x + z + arm", None),
    "intercepts": ("y ~ x + z + arm + (1 | g)", None),
    "slopes": ("y ~ x + z + arm + (x | h)", None),
    "crossed and weighted": ("y ~ x + z + arm + (1 | g) + (x || h)", "w"),
}


@pytest.mark.parametrize("name", VIF)
def test_inflation_is_fox_and_monettes(data, name):
    formula, weights = VIF[name]
    fit = mfx.lmer(formula, data, weights=weights)
    X = whitened(fit)
    order = [fit.params.index.get_loc(c) for c in ("Intercept", "x", "z", *ARMS)]
    expected = generalised(X[:, order], TERMS)
    assert fit.vif()["vif"].to_dict() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("coding", ["arm", "C(arm, Sum)", "C(arm, Treatment('old'))"])
def test_inflation_does_not_depend_on_the_coding_of_a_factor(data, coding):
    plain = mfx.lmer("y ~ x + z + arm + (1 | g)", data).vif()
    found = mfx.lmer(f"y ~ x + z + {coding} + (1 | g)", data).vif()
    np.testing.assert_allclose(found.sort_values("df"), plain.sort_values("df"), rtol=1e-6)


def test_inflation_has_its_degrees_of_freedom_and_its_root(data):
    found = mfx.lmer("y ~ x + z + arm + (1 | g)", data).vif()
    assert list(found) == ["vif", "df", "scaled"]
    assert found["df"].to_dict() == {"x": 1, "z": 1, "arm": 2}
    # Fox and Monette's GVIF^(1 / (2 df)), which compares between terms.
    np.testing.assert_allclose(found["scaled"], found["vif"] ** (1 / (2 * found["df"])))


def test_uncorrelated_columns_are_not_inflated():
    # cake is balanced: recipe and temperature cross completely.
    fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", mfx.datasets.load("cake"))
    np.testing.assert_allclose(fit.vif()["vif"], 1.0, rtol=1e-10)


def test_columns_that_were_left_out_do_not_inflate(data):
    with pytest.warns(DroppedColumnsWarning, match="twice"):
        fit = mfx.lmer("y ~ x + twice + z + (1 | g)", data.assign(twice=2 * data["x"]))
    expected = mfx.lmer("y ~ x + z + (1 | g)", data).vif()
    pd.testing.assert_frame_equal(fit.vif(), expected, rtol=1e-9)


def test_without_an_intercept_columns_correlate_about_zero(data):
    found = mfx.lmer("y ~ 0 + x + z", data).vif()["vif"]
    cosine = data["x"] @ data["z"] / np.sqrt((data["x"] @ data["x"]) * (data["z"] @ data["z"]))
    np.testing.assert_allclose(found, 1 / (1 - cosine**2), rtol=ROUNDING)


@pytest.mark.parametrize(("fixed", "count"), [("1", 0), ("x", 1), ("arm", 1), ("0 + arm", 1)])
def test_fewer_than_two_terms_have_nothing_to_compare(data, fixed, count):
    with pytest.raises(ArgumentError, match=f"has {count} besides the intercept; it needs two"):
        mfx.lmer(f"y ~ {fixed} + (1 | g)", data).vif()


# ---------------------------------------------------------------- rank


def covariances(reference):
    """lme4's covariance of each group's effects, over the residual variance."""
    found = {}
    for row in reference["varcorr"]:
        if row["group"]:
            found.setdefault(group_key(row["group"]), {}).setdefault(row["term"], []).append(row)
    blocks = {}
    for group, terms in found.items():
        blocks[group] = []
        for rows in terms.values():
            names = [r["var1"] for r in rows if not r["var2"]]
            G = np.zeros((len(names), len(names)))
            for r in rows:
                i, j = names.index(r["var1"]), names.index(r["var2"] or r["var1"])
                G[i, j] = G[j, i] = r["vcov"] / reference["sigma"] ** 2
            blocks[group].append(G)
    return blocks


@check
def components_are_the_eigenvalues_of_lme4s_covariances(name):
    expected = covariances(REFERENCES[name])
    for group, table in fit_of(name, "profiled").rank_pca().items():
        values = np.concatenate([np.linalg.eigvalsh(G) for G in expected[group_key(group)]])
        values = np.sort(values)[::-1]
        # Eigenvalues err by as much as the matrix does: in the size of the largest.
        np.testing.assert_allclose(table["sd"] ** 2, values, rtol=0, atol=2e-5 * values.max())


@check
def components_are_one_for_each_effect(name):
    fit = fit_of(name, "profiled")
    effects = {group: len(table.columns) for group, table in fit.ranef().items()}
    assert {group: len(table) for group, table in fit.rank_pca().items()} == effects


@pytest.mark.parametrize("name", tiered([n for n, r in REFERENCES.items() if "dyestuff2" not in n]))
def test_shares_of_the_components_sum_to_one(name):
    for table in fit_of(name, "profiled").rank_pca().values():
        assert table["variance"].sum() == pytest.approx(1.0, rel=ROUNDING)
        assert table["cumulative"].iloc[-1] == pytest.approx(1.0, rel=ROUNDING)


@check
def components_decrease_and_their_shares_are_of_the_variance(name):
    for table in fit_of(name, "profiled").rank_pca().values():
        squares = table["sd"] ** 2
        assert (table["sd"].diff().dropna() <= 0).all()
        expected = squares / max(squares.sum(), 1e-300)
        np.testing.assert_allclose(table["variance"], expected, rtol=ROUNDING)
        np.testing.assert_allclose(table["cumulative"], expected.cumsum(), rtol=ROUNDING)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_singular_fit_has_components_of_zero(method):
    # In the small experiment intercepts and slopes correlate perfectly, of both factors.
    zeros = {
        group: int((table["sd"] < 1e-4).sum())
        for group, table in fit_of(f"psych_sing__{method}", "profiled").rank_pca().items()
    }
    expected = {
        group[0]: sum(int((np.linalg.eigvalsh(G) < 1e-8).sum()) for G in blocks)
        for group, blocks in covariances(REFERENCES[f"psych_sing__{method}"]).items()
    }
    assert zeros == expected
    assert sum(zeros.values()) > 0


def test_a_variance_of_zero_has_no_shares():
    found = fit_of("dyestuff2__reml", "profiled").rank_pca()["Batch"]
    assert found.to_dict("list") == {"sd": [0.0], "variance": [0.0], "cumulative": [0.0]}


def test_terms_of_one_group_are_taken_together(data):
    fit = mfx.lmer("y ~ x + (1 | h) + (0 + x | h)", data)
    found = fit.rank_pca()["h"]["sd"]
    np.testing.assert_allclose(found, np.sort(np.abs(fit.theta))[::-1], rtol=ROUNDING)


def test_a_regression_has_no_components(data):
    assert mfx.lmer("y ~ x", data).rank_pca() == {}


# ---------------------------------------------------------------- generalised models

# Formulas of Nakagawa, Johnson and Schielzeth (2017), written out in R on glmmTMB's fits.
MADE_BY_R = json.loads((FOLDER / "generalized" / "means_and_shares.json").read_text("utf-8"))


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", MADE_BY_R)
def test_shares_of_generalised_models_match_the_published_formulas(name):
    fit = generalized_fit(name)
    for row in MADE_BY_R[name]["shares"]:
        shares = fit.variance_explained(row["method"])
        found = [shares.residual, *shares.r2, shares.icc["total"]]
        expected = [row[k] for k in ("observation", "marginal", "conditional", "icc")]
        assert found == pytest.approx(expected, rel=2e-5)
    first = fit.variance_explained(MADE_BY_R[name]["shares"][0]["method"])
    assert fit.r2.tolist() == first.r2.tolist()
    assert fit.icc.tolist() == first.icc.tolist()


def test_gamma_responses_have_the_published_variances():
    fit = generalized_fit("gamma_log__laplace")
    phi = fit.model.residual.params[0]
    found = [fit.variance_explained(m).residual for m in ("delta", "lognormal", "trigamma")]
    expected = [phi, np.log1p(phi), float(special.polygamma(1, 1.0 / phi))]
    assert found == pytest.approx(expected, rel=1e-12)


def test_poisson_variance_is_at_the_mean_of_the_model_without_predictors():
    reference = GENERALIZED["owls_pois__laplace"]
    fit, null = (
        generalized_fit("owls_pois__laplace"),
        reference.fit("SiblingNegotiation ~ 1 + (1 | Nest)"),
    )
    eta = null.params["Intercept"] + reference.data["logBroodSize"].mean() + null.theta[0] ** 2 / 2
    assert fit.variance_explained("delta").residual == pytest.approx(np.exp(-eta), rel=1e-6)


@pytest.mark.full
def test_normal_responses_have_their_residual_variance():
    sleep = mfx.datasets.load("sleepstudy")
    formula = "Reaction ~ Days + (Days | Subject)"
    linear = mfx.lmer(formula, sleep, reml=False)
    fit = mfx.glmer(formula, sleep, family="gaussian")
    assert fit.r2.tolist() == pytest.approx(linear.r2.tolist(), rel=SHARES)
    assert fit.icc.tolist() == pytest.approx(linear.icc.tolist(), rel=SHARES)
    assert linear.variance_explained().method == "residual"


def test_a_cauchy_latent_response_has_no_variance():
    data = GENERALIZED["cbpp_prop__laplace"].data
    fit = mfx.glmer("prop ~ period + (1 | herd)", data, weights="size", link="cauchit")
    assert fit.r2.isna().all()
    assert fit.icc.isna().all()
    with pytest.raises(ArgumentError, match=r"has no variance.*method='delta'"):
        fit.variance_explained("theoretical")
    assert fit.variance_explained("delta").r2.notna().all()


def test_a_method_of_another_family_is_refused():
    with pytest.raises(ArgumentError, match="'theoretical', 'delta'"):
        generalized_fit("cbpp_prop__laplace").variance_explained("trigamma")
