"""Covariances robust within clusters: clubSandwich's numbers, identities, and simulation.

Source of truth: the files cr_*.json of tests/reference/robust, by clubSandwich 0.5.8 on lme4 1.1.31
with tight tolerances; the definitions in dense matrices; if V holds, CR2 has the expectation M.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory
from mixedfx.inference.cluster_robust import COV_TYPES, cluster_robust
from mixedfx.inference.clusters import resolve_clusters

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")

DATA = {
    "cr_sleep": "data/sleepstudy.csv",
    "cr_panel": "structured/data/panel.csv",
    "cr_chick": "generalized/data/ChickWeight.csv",
}
# The references' optimum is known to about 1e-7 of a standard error.
TOLERANCE = 2e-6


def reference(name):
    return json.loads((Path(FOLDER) / f"robust/{name}.json").read_text())


@pytest.fixture(scope="module")
def fits():
    found = {}
    for name, path in DATA.items():
        expected = reference(name)
        data = pd.read_csv(Path(FOLDER) / path)
        for column, levels in expected["factors"].items():
            data[column] = pd.Categorical(data[column].astype(str), levels)
        found[name] = mfx.lmer(expected["formula_py"], data, reml=expected["REML"])
    return found


@pytest.mark.parametrize("cov_type", COV_TYPES)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.cases(None)
def test_covariances_and_degrees_of_freedom_are_clubsandwichs(fits, name, cov_type):
    expected = reference(name)
    robust = fits[name].get_robustcov_results(cov_type, groups=expected["cluster"])
    table, of = robust.tidy(), expected["robust"][cov_type]
    scale = np.outer(of["se"], of["se"])
    assert np.abs((robust.cov_params().to_numpy() - of["vcov"]) / scale).max() < TOLERANCE
    np.testing.assert_allclose(table["std_error"], of["se"], rtol=TOLERANCE)
    np.testing.assert_allclose(table["df"], of["df_satterthwaite"], rtol=TOLERANCE)
    np.testing.assert_allclose(table["p_value"], of["p_satterthwaite"], rtol=1e-4)


@pytest.mark.parametrize("name", ["cr_panel", "cr_chick"])
def test_tests_of_several_hypotheses_are_clubsandwichs(fits, name):
    expected = reference(name)
    robust = fits[name].get_robustcov_results()
    names = dict(zip((f["name"] for f in expected["fixef"]), robust.params.index, strict=True))
    for tested in expected["robust"]["CR2"]["wald"]:
        found = robust.wald_test(", ".join(names[c] for c in tested["coefficients"]))
        (htz,) = (t for t in tested["tests"] if t["test"] == "HTZ")
        assert found["F"] == pytest.approx(htz["Fstat"], rel=TOLERANCE)
        assert found["den_df"] == pytest.approx(htz["df_denom"], rel=TOLERANCE)
        assert found["p_value"] == pytest.approx(htz["p_val"], rel=1e-5)


def test_a_test_of_one_hypothesis_is_its_t_test(fits):
    robust = fits["cr_panel"].get_robustcov_results()
    one, t = robust.wald_test("x = 0.1"), robust.t_test("x = 0.1").iloc[0]
    assert one["F"] == pytest.approx(t["statistic"] ** 2)
    assert (one["den_df"], one["p_value"]) == pytest.approx((t["df"], t["p_value"]))


def trial(seed=3, n=24):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n), rng.integers(2, 7, n))
    visit = np.concatenate([np.arange(k) for k in np.bincount(g)])
    data = pd.DataFrame({"g": g, "site": g // 4, "visit": visit, "w": rng.uniform(0.5, 2, len(g))})
    data["arm"] = np.where(g % 2, "new", "old")
    data["x"] = rng.standard_normal(len(g)) + 1e4
    effects = rng.standard_normal(n)[g] + 0.4 * rng.standard_normal(n)[g] * visit
    noise = rng.standard_normal(len(g)) * np.where(g % 2, 1.5, 0.7)
    data["y"] = 2.0 + 0.3 * visit + effects + 0.5 * rng.standard_normal(n // 4)[g // 4] + noise
    return data


MODELS = {
    "slopes": ("y ~ visit * arm + (visit | g)", {}),
    "nested": ("y ~ visit + x + (1 | site / g)", {}),
    "weights": ("y ~ visit + arm + (1 | g)", {"weights": "w"}),
    "by arm": ("y ~ visit + arm + (1 | g)", {"dispersion": "~ arm"}),
    "correlated": ("y ~ visit + arm", {"residual": "ar1(visit | g)"}),
    "correlated, by arm": ("y ~ visit + arm", {"residual": "cs(visit | arm / g)"}),
}


@pytest.fixture(scope="module")
def trial_fits():
    data = trial()
    return {name: mfx.lmer(f, data, **options) for name, (f, options) in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_the_bias_reduced_covariance_has_the_models_expectation(trial_fits, name):
    # E(CR2) = sum a_i' Var(e_i) a_i = M, which holds for the right V_i alone.
    fit = trial_fits[name].model
    found = cluster_robust(fit, resolve_clusters(fit, None).codes, "CR2")
    M, S = found._M, found._shared
    expected = found._own.sum(axis=0) - np.einsum("mpa,pq,mqb->ab", S, M, S)
    np.testing.assert_allclose(expected, M, atol=1e-7 * np.abs(M).max())


def test_the_sandwich_is_that_of_dense_matrices():
    fit = mfx.lmer("y ~ visit + arm + (visit | g)", trial())
    rows, s = fit.model.rows, fit.sigma
    (term,) = rows.random_terms
    D = fit.cov_re.to_numpy()
    same = term.codes[:, None] == term.codes
    V = s**2 * np.eye(rows.n) + (term.model_matrix @ D @ term.model_matrix.T) * same
    X, e = rows.X, rows.y - rows.X @ fit.params.to_numpy()
    M = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    B = M @ X.T @ np.linalg.inv(V)
    meat = np.where(same, np.outer(e, e), 0.0)
    robust = fit.get_robustcov_results("CR0").cov_params()
    np.testing.assert_allclose(robust, B @ meat @ B.T, rtol=1e-8, atol=1e-12)


def test_the_origin_of_a_column_does_not_matter():
    data = trial()
    far = mfx.lmer("y ~ visit + x + (1 | g)", data).get_robustcov_results()
    near = mfx.lmer("y ~ visit + x + (1 | g)", data.assign(x=data["x"] - 1e4))
    near = near.get_robustcov_results()
    for column in ("std_error", "df"):
        np.testing.assert_allclose(far.tidy()[column][1:], near.tidy()[column][1:], rtol=1e-6)


@pytest.mark.slow
def test_intervals_of_a_wrong_model_have_their_coverage():
    # A slope varies by group and the model has none: its own intervals are far too short.
    rng, covered, own = np.random.default_rng(8), [], []
    g, t = np.repeat(np.arange(12), 6), np.tile(np.arange(6.0), 12)
    for _ in range(300):
        y = rng.standard_normal(12)[g] + rng.standard_normal(12)[g] * t + rng.standard_normal(72)
        fit = mfx.lmer("y ~ t + (1 | g)", pd.DataFrame({"y": y, "t": t, "g": g}))
        for found, limits in (
            (covered, fit.get_robustcov_results().conf_int(parm="t")),
            (own, fit.conf_int(parm="t")),
        ):
            found.append(limits.loc["t", 0] < 0.0 < limits.loc["t", 1])
    assert 0.91 < np.mean(covered) < 0.985
    assert np.mean(own) < 0.7


def test_clusters_may_be_a_column_an_array_or_a_series():
    data = trial()
    data.index = data.index + 100
    fit = mfx.lmer("y ~ visit + arm + (1 | g)", data)
    default = fit.get_robustcov_results()
    assert (default.groups, default.n_groups) == ("g", 24)
    for groups in ("g", data["g"], data["g"].to_numpy(), data["g"].sample(frac=1, random_state=1)):
        found = fit.get_robustcov_results(groups=groups)
        assert found.cov_params().equals(default.cov_params())
    sites = fit.get_robustcov_results(groups=data["site"])
    assert sites.n_groups == 6
    assert not np.allclose(sites.bse, default.bse)


def test_of_nested_factors_the_clusters_are_the_larger(trial_fits):
    assert trial_fits["nested"].get_robustcov_results().groups == "site"


def test_normal_tests_have_infinite_degrees_of_freedom(trial_fits):
    robust = trial_fits["slopes"].get_robustcov_results(use_t=False)
    assert np.isinf(robust.tidy()["df"]).all()
    assert "z value" in str(robust.summary())


def test_the_summary_says_what_the_errors_are(trial_fits):
    robust = trial_fits["slopes"].get_robustcov_results()
    assert "cluster-robust standard errors (CR2)" in str(robust)
    assert "24 clusters of g" in repr(robust)
    np.testing.assert_allclose(robust.tvalues, robust.params / robust.bse)
    assert (robust.pvalues == robust.tidy().set_index("term")["p_value"]).all()


def test_a_dropped_column_has_no_variance():
    data = trial().assign(twice=lambda d: 2 * d["visit"])
    with pytest.warns(mfx.errors.MixedfxWarning):
        fit = mfx.lmer("y ~ visit + twice + (1 | g)", data)
    robust = fit.get_robustcov_results()
    assert list(robust.bse.isna()) == [False, False, True]
    assert robust.cov_params().shape == (3, 3)


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("y ~ visit + (1 | g) + (1 | visit)", {}, "crossed factors leave no independent clusters"),
        ("y ~ visit + (1 | site)", {"groups": "visit"}, "take groups= in which"),
        ("y ~ visit + (1 | g)", {"groups": "sit"}, "no grouping factor or column of the model"),
        ("y ~ visit + (1 | g)", {"groups": [1, 2]}, "has 2 values"),
        ("y ~ visit + (1 | g)", {"groups": "arm"}, "no grouping factor or column of the model"),
        ("y ~ visit + (1 | g)", {"cov_type": "HC1"}, "cov_type"),
        ("y ~ visit + (1 | g)", {"use_t": "yes"}, "use_t"),
        ("y ~ visit", {}, "name the clusters by groups="),
    ],
)
def test_what_has_no_independent_clusters_is_refused(formula, options, message):
    fit = mfx.lmer(formula, trial())
    with pytest.raises(ArgumentError, match=message):
        fit.get_robustcov_results(**options)


def test_few_clusters_have_no_test_of_many_hypotheses():
    data = trial(n=8)
    fit = mfx.lmer("y ~ C(visit) + (1 | site)", data)
    with pytest.raises(ArgumentError, match="one at a time"):
        fit.get_robustcov_results().wald_test(list(fit.params.index[1:]))


def test_one_cluster_and_missing_ones_are_refused():
    data = trial()
    fit = mfx.lmer("y ~ visit + (1 | g)", data)
    with pytest.raises(ArgumentError, match="one cluster"):
        fit.get_robustcov_results(groups=np.zeros(len(data)))
    with pytest.raises(ArgumentError, match="1 missing"):
        fit.get_robustcov_results(groups=[None, *data["g"][1:]])


def test_generalised_models_and_fits_without_rows_are_refused():
    data = trial()
    counts = mfx.glmer("k ~ visit + (1 | g)", data.assign(k=data["visit"] % 3), family="poisson")
    with pytest.raises(ArgumentError, match="linear models"):
        counts.get_robustcov_results()
    with pytest.raises(RowsNotInMemory):
        mfx.lmer("y ~ visit + (1 | g)", data).slim().get_robustcov_results()
