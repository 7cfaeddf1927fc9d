"""What the fit owes to single rows and to single levels: what is left when they are gone.

Source of truth: fits of the data without them, from scratch; the dense oracle at the parameters
reported; and, without random terms, statsmodels' regression diagnostics.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from oracle import dense_model, dense_z, lambdas
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.build import build, subset_rows
from mixedfx.errors import ArgumentError, MixedfxWarning

MODELS = {
    "slope": ("y ~ x + arm + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | g/plot)", {}),
    "two terms of a group": ("y ~ x + (1 | g) + (0 + x | g)", {}),
    "uncorrelated": ("y ~ x + (x || g)", {}),
    "maximum likelihood": ("y ~ x + (x | g)", {"reml": False}),
    "weights and offset": ("y ~ x + (1 | g) + (1 | h)", {"weights": "w", "offset": "off"}),
    "ill-conditioned": ("y ~ year + I(year**2) + (1 | g)", {}),
}
every_model = pytest.mark.parametrize("name", MODELS)
methods = pytest.mark.parametrize("method", ["one_step", "refit"])
# Two searches of one model: deviances within 1e-8, so each parameter within 1e-4 of its standard
# deviation; most are nearer.
SEARCHES = 5e-5

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


def world(groups, each=12, seed=9):
    """Groups with slopes, crossed with six days, plots inside the groups."""
    rng = np.random.default_rng(seed)
    n = groups * each
    g, h = np.repeat(np.arange(groups), each), rng.integers(6, size=n)
    plot, x = rng.integers(3, size=n), rng.normal(size=n)
    effects = rng.normal(size=groups)[g] + 0.6 * rng.normal(size=groups)[g] * x
    effects += 0.8 * rng.normal(size=6)[h] + 0.5 * rng.normal(size=(groups, 3))[g, plot]
    return pd.DataFrame(
        {
            "y": 2 + 0.5 * x + effects + rng.normal(size=n),
            "x": x,
            "year": rng.integers(1990, 2020, n),
            "g": [f"g{i:02d}" for i in g],
            "h": h,
            "plot": plot,
            "arm": pd.Categorical(rng.choice(["old", "new", "none"], size=n)),
            "w": rng.uniform(0.5, 2.0, size=n),
            "off": rng.normal(size=n),
        },
        index=pd.Index(1000 + 2 * np.arange(n), name="row"),
    )


@pytest.fixture(scope="module")
def data():
    return world(10)


@pytest.fixture(scope="module")
def fits(data):
    return {name: mfx.lmer(formula, data, **options) for name, (formula, options) in MODELS.items()}


@pytest.fixture(scope="module")
def tables(fits):
    return {
        (name, method): fit.influence("g", method=method)
        for name, fit in fits.items()
        for method in ("one_step", "refit")
    }


def estimates(fit):
    """What the table of levels reports changes of, by its names."""
    theta = {f"theta[{i}]": value for i, value in enumerate(fit.theta)}
    return pd.Series({**fit.params, "sigma": fit.sigma, **theta})


# ---------------------------------------------------------------- rows


def textbook_hat(fit):
    """Diagonal of the matrix that turns the response into the fitted values."""
    design, X = fit.model.design, fit.model.rows.X
    w = np.ones(len(X)) if design.rows.weights is None else design.rows.weights
    V = np.diag(1 / w)
    for random_term, lam in zip(design.rows.random_terms, lambdas(design, fit.theta), strict=True):
        spread = dense_z(random_term) @ np.kron(np.eye(random_term.n_levels), lam)
        V += spread @ spread.T
    inverse = np.linalg.inv(V)
    rest = np.eye(len(V)) - X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    return np.diag(np.eye(len(V)) - np.diag(1 / w) @ inverse @ rest)


@every_model
def test_the_table_of_rows_has_a_row_for_each(fits, data, name):
    found = fits[name].influence()
    assert list(found) == ["hat", "resid", "std_resid", "cooks_distance"]
    pd.testing.assert_index_equal(found.index, data.index)


@every_model
def test_rows_have_their_leverage(fits, name):
    expected = textbook_hat(fits[name])
    # For nearly dependent columns the dense form loses digits.
    digits = 1e-7 if name == "ill-conditioned" else 1e-12
    np.testing.assert_allclose(fits[name].influence()["hat"], expected, rtol=0, atol=digits)


@every_model
def test_rows_have_their_residuals(fits, name):
    found = fits[name].influence()["resid"]
    pd.testing.assert_series_equal(found, fits[name].resid, rtol=1e-10, atol=1e-10)


@every_model
def test_standardized_residuals_are_over_their_own_standard_deviation(fits, data, name):
    fit, table = fits[name], fits[name].influence()
    w = data["w"] if "weights" in MODELS[name][1] else 1.0
    expected = fit.resid * np.sqrt(w) / (fit.sigma * np.sqrt(1 - table["hat"]))
    np.testing.assert_allclose(table["std_resid"], expected, rtol=1e-9)


@every_model
def test_cooks_distance_is_that_of_lme4(fits, data, name):
    # stats:::cooks.distance of lme4: (res / (1 - hat))^2 hat / (sigma^2 p), of Pearson residuals.
    fit, table = fits[name], fits[name].influence()
    w = data["w"] if "weights" in MODELS[name][1] else 1.0
    pearson = fit.resid * np.sqrt(w)
    hat = table["hat"]
    expected = (pearson / (1 - hat)) ** 2 * hat / (fit.scale * len(fit.params))
    np.testing.assert_allclose(table["cooks_distance"], expected, rtol=1e-9)


@pytest.fixture(scope="module")
def regression(data):
    ols = sm.OLS.from_formula("y ~ x + arm", data).fit().get_influence()
    return mfx.lmer("y ~ x + arm", data).influence(), ols


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("hat", lambda ols: ols.hat_matrix_diag),
        ("resid", lambda ols: ols.resid),
        ("std_resid", lambda ols: ols.resid_studentized_internal),
        ("cooks_distance", lambda ols: ols.cooks_distance[0]),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_rows_of_a_regression_are_diagnosed_as_by_statsmodels(regression, ours, theirs):
    table, ols = regression
    np.testing.assert_allclose(table[ours], theirs(ols), rtol=1e-9, atol=1e-12)


@pytest.mark.full
def test_cooks_distance_of_a_weighted_regression_is_the_change_without_the_row(data):
    # Cook's definition: the change of beta on leaving the row out, in its own covariance.
    some = data.head(20)
    fit = mfx.lmer("y ~ x", some, weights="w")
    precision = np.linalg.inv(fit.cov_params())
    for row, found in fit.influence()["cooks_distance"].items():
        change = mfx.lmer("y ~ x", some.drop(index=row), weights="w").params - fit.params
        assert found == pytest.approx(change @ precision @ change / 2, rel=1e-8)


@pytest.mark.covering(1)
@pytest.mark.parametrize("fixed", ["x + only", "x + year + only + (1 | g)"])
@pytest.mark.parametrize("row", range(0, 40, 4))
def test_a_row_alone_in_its_column_has_no_influence_to_measure(data, fixed, row):
    # Its fitted value is its response: zero over zero, of which rounding makes any number.
    some = data.head(40).assign(only=1.7 * (np.arange(40) == row))
    found = mfx.lmer(f"y ~ {fixed}", some, weights="w").influence().iloc[row]
    assert found["hat"] == pytest.approx(1.0, abs=1e-12)
    assert found[["std_resid", "cooks_distance"]].isna().all()


# ---------------------------------------------------------------- levels: shape


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@methods
def test_the_table_of_levels_has_every_estimate(fits, tables, name, method):
    expected = ["nobs", "cooks_distance", *estimates(fits[name]).index]
    assert list(tables[name, method]) == expected


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@methods
def test_the_table_of_levels_has_every_level(fits, tables, name, method):
    expected = fits[name].ranef("g").index
    pd.testing.assert_index_equal(tables[name, method].index, expected)


@every_model
def test_rows_left_out_are_counted(tables, data, name):
    assert tables[name, "refit"]["nobs"].to_dict() == data["g"].value_counts().to_dict()


def test_one_step_is_the_default(fits, tables):
    pd.testing.assert_frame_equal(fits["slope"].influence("g"), tables["slope", "one_step"])


@pytest.mark.covering(1)
@every_model
@methods
def test_cooks_distance_is_the_change_in_its_own_covariance(fits, tables, name, method):
    fit, table = fits[name], tables[name, method]
    changes = table[list(fit.params.index)].to_numpy()
    root = np.linalg.cholesky(fit.cov_params())
    expected = (np.linalg.solve(root, changes.T) ** 2).sum(axis=0) / len(fit.params)
    # Covariances of nearly dependent columns have few digits.
    digits = 1e-4 if name == "ill-conditioned" else 1e-9
    np.testing.assert_allclose(table["cooks_distance"], expected, rtol=digits)


# ---------------------------------------------------------------- levels: left out


@pytest.mark.full
@every_model
def test_a_refit_is_the_fit_without_the_level(fits, tables, data, name):
    formula, options = MODELS[name]
    fit, table = fits[name], tables[name, "refit"]
    for level in ("g00", "g04", "g09"):
        rest = mfx.lmer(formula, data[data["g"] != level], engine="profiled", **options)
        found = table.loc[level, list(estimates(fit).index)] + estimates(fit)
        sd = np.r_[rest.bse, np.full(1 + len(fit.theta), 0.2)]  # of sigma, theta: about 0.2 here
        np.testing.assert_allclose((found - estimates(rest)) / sd, 0.0, atol=SEARCHES)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(("name", "group"), [("crossed", "h"), ("nested", "g:plot")])
def test_levels_of_any_factor_are_left_out(fits, data, name, group):
    fit = fits[name]
    table = fit.influence(group, method="refit")
    labels = data["h"] if group == "h" else data["g"] + ":" + data["plot"].astype(str)
    for level in table.index[[0, -1]]:
        rest = mfx.lmer(MODELS[name][0], data[labels != level], engine="profiled")
        found = table.loc[level, list(estimates(fit).index)] + estimates(fit)
        np.testing.assert_allclose(found, estimates(rest), atol=SEARCHES * 0.2)
        assert table.loc[level, "nobs"] == (labels == level).sum()


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@methods
def test_estimates_are_those_of_the_rest_at_its_theta(fits, tables, name, method):
    # Whatever theta a step ends at, the rest follows from it exactly: the oracle's.
    fit, table = fits[name], tables[name, method]
    design = fit.model.design
    codes = design.rows.codes_of("g")
    for at, level in enumerate(table.index):
        found = table.loc[level, list(estimates(fit).index)] + estimates(fit)
        rest = without(design, codes != at)
        expected = dense_model(rest, found.filter(like="theta[").to_numpy(), reml=fit.reml)
        # The oracle inverts what is nearly dependent, in the columns' own units.
        digits = 5e-5 if name == "ill-conditioned" else 1e-10
        np.testing.assert_allclose(found[: len(fit.params)], expected.beta, rtol=digits)
        assert found["sigma"] == pytest.approx(expected.sigma, rel=1e-10)


def without(design, keep):
    """Rows of a design, with all its levels: effects of levels without rows do nothing."""
    cut = [
        replace(b, codes=b.codes[keep], model_matrix=b.model_matrix[keep])
        for b in design.rows.random_terms
    ]
    rows = design.rows
    cut_rows = replace(
        rows,
        y=rows.response_less_offset[keep],
        X=rows.X[keep],
        random_terms=tuple(cut),
        weights=None if rows.weights is None else rows.weights[keep],
        offset=None,
    )
    return replace(design, rows=cut_rows)


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(["slope", "crossed", "weights and offset"], ["slope"]))
def test_one_step_comes_closer_to_the_refit_as_single_levels_matter_less(name):
    # A Newton step with the Hessian of all data errs by the level's share of it: of the change
    # in theta about one part in the number of levels, times a constant of the problem.
    formula, options = MODELS[name]
    shares = []
    for groups in (15, 60):
        fit = mfx.lmer(formula, world(groups), **options)
        names = list(estimates(fit).index)
        step, refit = (fit.influence("g", method=m)[names] for m in ("one_step", "refit"))
        shares.append(np.linalg.norm(step - refit) / np.linalg.norm(refit))
    assert shares[1] < 0.03
    assert shares[1] < shares[0] / 3


@pytest.fixture(scope="module", params=[0, 6, 9, 44])
def weak(request):
    """A variance hardly above zero, which a whole Newton step from it may pass."""
    rng = np.random.default_rng([request.param, 5])
    g = np.repeat(np.arange(8), 6)
    y = rng.normal(size=48) + 0.35 * rng.normal(size=8)[g]
    return mfx.lmer("y ~ 1 + (1 | g)", {"y": y, "g": g}, engine="profiled")


def test_a_step_does_not_lead_uphill(weak):
    table, design = weak.influence("g"), weak.model.design
    for at, level in enumerate(table.index):
        rest = without(design, design.rows.random_terms[0].codes != at)
        theta = weak.theta + table.loc[level, "theta[0]"]
        before, after = (dense_model(rest, t, reml=True).deviance for t in (weak.theta, theta))
        assert after <= before + 1e-9


def test_a_level_without_which_the_variance_is_zero_is_not_said_to_lower_it(weak):
    step, refit = (weak.influence("g", method=m)["theta[0]"] for m in ("one_step", "refit"))
    assert (step[refit == -weak.theta[0]] <= 0.0).all()


def test_at_a_variance_of_zero_one_step_stays_there():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    found = fit.influence("Batch")
    assert (found["theta[0]"] == 0.0).all()
    rest = mfx.datasets.load("Dyestuff2").query("Batch != 'A'")["Yield"]
    assert found.loc["A", "Intercept"] == pytest.approx(rest.mean() - fit.params["Intercept"])


def test_no_level_matters_where_all_are_the_same():
    # Each group has the same rows: leaving one out changes no coefficient.
    rng = np.random.default_rng(2)
    x, e = np.arange(6.0), rng.normal(size=6)
    data = pd.DataFrame({"x": np.tile(x, 5), "y": np.tile(x + e, 5), "g": np.repeat(range(5), 6)})
    found = mfx.lmer("y ~ x + (1 | g)", data).influence("g", method="refit")
    np.testing.assert_allclose(found[["Intercept", "x", "cooks_distance"]], 0.0, atol=1e-12)


# ---------------------------------------------------------------- levels: what is not determined


def only_there(data, **columns):
    """The columns, as they are in the first group, and zero in all others."""
    there = data["g"] == "g00"
    return data.assign(**{name: np.where(there, values, 0.0) for name, values in columns.items()})


@methods
def test_without_the_only_level_where_a_column_varies_nothing_is_known(data, method):
    some = only_there(data, z=np.sin(np.arange(len(data))))
    found = mfx.lmer("y ~ x + z + (1 | g)", some).influence("g", method=method)
    assert found.loc["g00"].drop("nobs").isna().all()
    assert found.drop(index="g00").notna().all(axis=None)


@methods
def test_without_the_only_level_that_tells_two_columns_apart_nothing_is_known(data, method):
    apart = only_there(data, z=np.sin(np.arange(len(data))))
    some = apart.assign(z=apart["z"] + data["x"])
    found = mfx.lmer("y ~ x + z + (1 | g)", some).influence("g", method=method)
    assert found.loc["g00"].drop("nobs").isna().all()
    assert found.drop(index="g00").notna().all(axis=None)


@methods
def test_without_the_only_level_where_a_slope_varies_nothing_is_known(data, method):
    z = np.sin(np.arange(len(data)))
    some = only_there(data, z=z, slopes=9 * z * np.cos(3.0 * data["h"]))
    fit = mfx.lmer("y ~ x + (1 | g) + (0 + z | h)", some.assign(y=some["y"] + some["slopes"]))
    found = fit.influence("g", method=method)
    assert found.loc["g00"].drop("nobs").isna().all()
    assert found.drop(index="g00").notna().all(axis=None)


@methods
def test_of_two_levels_neither_can_be_left_out(data, method):
    two = data[data["g"].isin(["g00", "g01"])]
    found = mfx.lmer("y ~ x + (1 | g)", two).influence("g", method=method)
    assert found.drop(columns="nobs").isna().all(axis=None)
    assert found["nobs"].tolist() == [12, 12]


@methods
def test_leaving_levels_out_does_not_warn(data, method):
    # The rest may well be singular: that is an estimate, and no news of the fit.
    with warnings.catch_warnings():
        warnings.simplefilter("error", MixedfxWarning)
        fit = mfx.lmer("y ~ x + (x | g)", data)
        assert fit.influence("g", method=method).notna().all(axis=None)


# ---------------------------------------------------------------- some rows of a design

PARTS = {
    "labels": lambda design: [b.levels.labels.tolist() for b in design.spec.random_terms],
    "levels": lambda design: [b.codes.tolist() for b in design.rows.random_terms],
    "values": lambda design: [b.model_matrix.tolist() for b in design.rows.random_terms],
    "effects": lambda design: [b.effect_names for b in design.spec.random_terms],
    "fixed columns": lambda design: (design.spec.X_names, design.rows.X.tolist()),
    "response": lambda design: design.rows.y.tolist(),
    "weights": lambda design: design.rows.weights.tolist(),
    "offset": lambda design: design.rows.offset.tolist(),
    "index": lambda design: design.rows.index.tolist(),
    "data": lambda design: design.rows.model_frame.astype(str).to_dict(),
}


@pytest.fixture(scope="module")
def cut(data):
    """A design of some rows, made from all rows and from these alone."""
    formula = mfx.parse("y ~ x + (x | g) + (1 | g:plot) + (0 + year | h) + (1 | arm:h)")
    keep = ((data["g"] != "g03") & (data["h"] != 2) & (data["plot"] + data["h"] > 1)).to_numpy()
    whole = build(formula, data, weights="w", offset="off")
    return subset_rows(whole, keep), build(formula, data[keep], weights="w", offset="off")


@pytest.mark.parametrize("part", PARTS)
def test_some_rows_of_a_design_are_the_design_of_some_rows(cut, part):
    found, expected = (PARTS[part](design) for design in cut)
    assert found == expected


def test_levels_that_are_left_are_recognised_again(cut, data):
    found, expected = cut
    columns = {"g": data["g"], "plot": data["plot"], "h": data["h"], "arm": data["arm"]}
    for one, other in zip(found.spec.random_terms, expected.spec.random_terms, strict=True):
        values = [columns[factor] for factor in one.formula_term.group]
        known = one.levels.encode(values)
        np.testing.assert_array_equal(known, other.levels.encode(values))
        assert (known == -1).any()  # those that were cut are not


# ---------------------------------------------------------------- arguments and names


@pytest.mark.parametrize("of", ["G", "plot", "rows", "", 3, None])
def test_an_unknown_factor_lists_rows_and_the_groups(fits, of):
    with pytest.raises(ArgumentError, match="'obs', 'g', 'h'"):
        fits["crossed"].influence(of)


@pytest.mark.parametrize("of", ["g", "obs"])
def test_an_unknown_method_lists_the_choices(fits, of):
    with pytest.raises(ArgumentError, match="'one_step', 'refit'"):
        fits["crossed"].influence(of, method="newton")


def test_a_group_named_obs_is_a_group(data):
    found = mfx.lmer("y ~ x + (1 | obs)", data.rename(columns={"g": "obs"})).influence("obs")
    assert found.index.tolist() == sorted(data["g"].unique())


def test_a_regression_has_rows_only(data):
    with pytest.raises(ArgumentError, match="'obs'"):
        mfx.lmer("y ~ x", data).influence("g")


@pytest.mark.parametrize("name", ["nobs", "cooks_distance", "sigma"])
def test_a_coefficient_may_be_called_like_another_column(data, name):
    plain = mfx.lmer("y ~ x + (1 | g)", data).influence("g")
    found = mfx.lmer(f"y ~ {name} + (1 | g)", data.rename(columns={"x": name})).influence("g")
    np.testing.assert_allclose(found, plain)


@pytest.mark.full
def test_influence_leaves_the_fit(data):
    fit = mfx.lmer("y ~ x + (x | g)", data)
    before = estimates(fit)
    fit.influence("g", method="refit")
    fit.influence("g")
    pd.testing.assert_series_equal(estimates(fit), before)
