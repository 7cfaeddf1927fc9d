"""Residual standard deviations by stratum: nlme's estimates, and the dense likelihood's.

Source of truth: nlme's fits with ``varIdent``, at full precision, and the normal density of the
response with its covariance written out, differentiated by finite differences in all of its
parameters: the entries of each term's root, and the coefficients of the log standard deviation.
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from oracle import covariances, curvature, dense_model, lambdas, marginal, slope
from reference_models import FOLDER, Reference
from scipy import optimize, special

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import ArgumentError, DispersionError, EngineRefusal, SingularFitWarning
from mixedfx.estimation.nested import ProfiledResidualDeviance
from mixedfx.estimation.optimizer_result import Control
from mixedfx.formula.parser import parse_dispersion
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.pls import solve_pls
from mixedfx.residuals.registry import residual_model
from mixedfx.residuals.variance_function import score_log_weights

both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])

# ------------------------------------------------------------------ nlme


def _of_nlme() -> dict[str, Reference]:
    records = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((FOLDER / "models").glob("*.json"))
    )
    return {r["id"]: Reference(r) for r in records if "variance_function" in r}


NLME = _of_nlme()
every_reference = pytest.mark.parametrize("name", NLME)
# The references are optimised to about 1e-9 in the deviance, and where that is flat to 1e-9 a
# parameter is known to 1e-5 of its standard error: of a standard deviation, to 1e-5 or so.
SAME = 1e-6


@cache
def of_reference(name: str) -> mfx.Results:
    reference = NLME[name]
    stratum = reference["variance_function"]["stratum"]
    data = reference.data
    if stratum not in data:
        raise KeyError(stratum)
    levels = reference["variance_function"]["levels"]
    data[stratum] = pd.Categorical(data[stratum].astype(str), categories=levels)
    return mfx.lmer(
        reference["formula_py"], data, reml=reference["REML"], dispersion=f"~ {stratum}"
    )


def test_there_are_references_by_kind_and_by_friend():
    assert sorted(NLME) == [
        "romcom5_friend__ml",
        "romcom5_friend__reml",
        "romcom_kind__ml",
        "romcom_kind__reml",
    ]


@pytest.mark.cases(1)
@every_reference
def test_the_deviance_is_nlmes(name):
    assert of_reference(name).deviance == pytest.approx(NLME[name]["criterion"], abs=SAME)


@every_reference
def test_the_deviance_is_no_worse_than_nlmes(name):
    assert of_reference(name).deviance <= NLME[name]["criterion"] + 1e-8


@every_reference
def test_the_coefficients_are_nlmes(name):
    expected = NLME[name].fixed["estimate"]
    assert of_reference(name).params.to_dict() == pytest.approx(expected.to_dict(), rel=1e-5)


@every_reference
def test_the_standard_errors_are_nlmes(name):
    expected = NLME[name].fixed["se"]
    assert of_reference(name).bse.to_dict() == pytest.approx(expected.to_dict(), rel=1e-5)


@every_reference
def test_the_standard_deviation_between_groups_is_nlmes(name):
    (expected,) = NLME[name].deviations.values()
    assert float(of_reference(name).vcomp.iloc[0]) ** 0.5 == pytest.approx(expected, rel=1e-4)


@every_reference
def test_the_residual_standard_deviations_are_nlmes(name):
    by = NLME[name]["variance_function"]
    expected = dict(zip(by["levels"], by["sigma_by_level"], strict=True))
    fit = of_reference(name)
    found = fit.residual_sd.groupby(NLME[name].data[by["stratum"]].astype(str)).first()
    assert found.to_dict() == pytest.approx(expected, rel=1e-4)


@every_reference
def test_sigma_is_that_of_the_first_level(name):
    assert of_reference(name).sigma == pytest.approx(NLME[name]["sigma"], rel=1e-4)


@every_reference
def test_the_random_effects_are_nlmes(name):
    fit = of_reference(name)
    expected = NLME[name].level_table("ranef", "friend", "friend")
    found = fit.ranef("friend").set_axis(expected.index.astype(str), axis=0)
    sd = float(fit.vcomp.iloc[0]) ** 0.5
    np.testing.assert_allclose(found / sd, expected / sd, rtol=0, atol=1e-3)


@pytest.mark.covering(1)
@every_reference
@pytest.mark.parametrize("field", ["aic", "df_model"])
def test_the_parameters_are_counted_as_nlme_counts_them(name, field):
    fit = of_reference(name)
    found = {"aic": fit.aic, "df_model": fit.df_modelwc}[field]
    assert found == pytest.approx(NLME[name][field], abs=SAME)


@pytest.mark.covering(1)
@every_reference
@pytest.mark.parametrize("random", ["none", "all"])
def test_predictions_of_new_rows_are_nlmes(name, random):
    expected = NLME[name]["predict_new"]["population" if random == "none" else "conditional"]
    fit = of_reference(name)
    found = fit.predict(NLME[name].new_data, random=random, new_levels="population")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_reference
def test_standardised_residuals_are_nlmes(name):
    fit = of_reference(name)
    found = (fit.resid / fit.residual_sd).iloc[: len(NLME[name]["head_rows"])]
    np.testing.assert_allclose(found, NLME[name]["resid_pearson_head"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["romcom_kind__ml", "romcom_kind__reml"])
def test_standard_errors_of_the_ratios_are_nlmes(name):
    # nlme takes the ratios to the first level in the data, and an approximate Hessian.
    rows = {r["parm"]: r for r in NLME[name]["intervals_nlme"] if r["part"] == "varStruct"}
    stratum = NLME[name].data["kind"].astype(str)
    first = next(level for level in stratum.unique() if level not in rows)
    levels = [first, *rows]
    data = NLME[name].data.assign(kind=pd.Categorical(stratum, categories=levels))
    fit = mfx.lmer(NLME[name]["formula_py"], data, reml=NLME[name]["REML"], dispersion="~ kind")
    for level, row in rows.items():
        expected = np.log(row["hi"] / row["lo"]) / 2 / special.ndtri(0.975)
        found = fit.dispersion.loc[f"kind[T.{level}]", "std_error"]
        assert found == pytest.approx(expected, rel=1e-3)


# glmmTMB 1.1.5 in R 4.2.2: glmmTMB(rating ~ 1 + (1 | friend), dispformula = ~ kind, REML = ...),
# summary(fit)$coefficients$disp, which are those of the logarithm of the variance.
GLMMTMB = {
    "romcom_kind__ml": (
        [-1.544896864, 1.196657714, 1.980869521],
        [0.15591681, 0.21937164, 0.18602394],
    ),
    "romcom_kind__reml": (
        [-1.545376783, 1.196610334, 1.981341530],
        [0.15585806, 0.21933851, 0.18599792],
    ),
}


@pytest.mark.parametrize("name", GLMMTMB)
@pytest.mark.parametrize("column", ["estimate", "std_error"])
def test_coefficients_are_half_those_of_glmmtmbs_log_variance(name, column):
    expected = dict(zip(["estimate", "std_error"], GLMMTMB[name], strict=True))[column]
    # Its search ends within about 1e-6, and so does its Hessian.
    np.testing.assert_allclose(2.0 * of_reference(name).dispersion[column], expected, rtol=5e-6)


# ------------------------------------------------------------------ the dense likelihood

MODELS = {
    "kind": ("y ~ x + (1 | g)", "~ kind", {}),
    "slopes": ("y ~ x + (x | g)", "~ kind", {}),
    "diagonal": ("y ~ x + (x || g)", "~ kind", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", "~ kind", {}),
    "nested": ("y ~ x + (1 | g / k)", "~ kind", {}),
    "numeric": ("y ~ x + (1 | g)", "~ z", {}),
    "both": ("y ~ x + kind + (1 | g)", "~ kind + z", {}),
    "interaction": ("y ~ x + (1 | g)", "~ kind * z", {}),
    "by group": ("y ~ x + (1 | g)", "~ C(h)", {}),
    "weights": ("y ~ x + (1 | g)", "~ kind", {"weights": "w"}),
    "offset": ("y ~ x + (1 | g)", "~ kind", {"offset": "o"}),
    "no fixed effects": ("y ~ 0 + (1 | g)", "~ kind", {}),
    "no random terms": ("y ~ x", "~ kind", {}),
    "no random terms, numeric": ("y ~ x", "~ kind + z", {"weights": "w"}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def frame() -> pd.DataFrame:
    """Seventy-two rows of three kinds, whose standard deviations differ by a factor of three."""
    rng = np.random.default_rng(21)
    n = 72
    g, h, k = np.repeat(np.arange(9), 8), np.tile(np.arange(6), 12), np.arange(n) % 4 // 2
    x, z = rng.normal(size=n), rng.normal(size=n)
    kind = rng.permutation(np.resize(["calm", "usual", "wild"], n))
    sd = np.exp(0.2 * z) * pd.Series(kind).map({"calm": 0.4, "usual": 0.8, "wild": 1.3}).to_numpy()
    level = rng.normal(size=9)[g] + 0.6 * rng.normal(size=9)[g] * x + 0.7 * rng.normal(size=6)[h]
    nested = 0.7 * rng.normal(size=18)[2 * g + k]
    return pd.DataFrame(
        {
            "y": 2.0 + 0.5 * x + level + nested + sd * rng.normal(size=n),
            "x": x,
            "z": z,
            "kind": kind,
            "g": g,
            "h": h,
            "k": k,
            "w": rng.uniform(0.5, 2.0, n),
            "o": rng.normal(size=n),
            "year": rng.integers(1990, 2020, n).astype(float),
        }
    )


def fitted(name: str, reml: bool = True) -> mfx.Results:
    return _fitted(name, reml)


@cache
def _fitted(name: str, reml: bool) -> mfx.Results:
    formula, dispersion, options = MODELS[name]
    return mfx.lmer(formula, frame(), dispersion=dispersion, reml=reml, **options)


class Dense:
    """The density as a function of roots of the covariances and the log sds' coefficients."""

    def __init__(self, fit: mfx.Results) -> None:
        self.model, self.design = fit, fit.model.design
        self.roots = fit.sigma * fit.theta
        gamma = fit.dispersion["estimate"].to_numpy()
        self.at = np.concatenate([self.roots, gamma])
        weights = fit.model.prior_weights
        self.by_weight = 1.0 if weights is None else weights**-0.5

    def __call__(self, point: np.ndarray):
        m = len(self.roots)
        G = [lam @ lam.T for lam in lambdas(self.design, point[:m])]
        sds = self.by_weight * np.exp(self.model.model.rows.residual.D @ point[m:])
        return marginal(self.design, G, sds, reml=self.model.reml)

    def deviance(self, point: np.ndarray) -> float:
        return self(point).deviance


@cache
def surface(name: str, reml: bool):
    """Gradient and Hessian of the dense deviance at the estimates."""
    dense = Dense(fitted(name, reml))
    return slope(dense.deviance, dense.at), curvature(dense.deviance, dense.at)


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@both_criteria
def test_the_deviance_is_that_of_the_normal_density(name, reml):
    dense = Dense(fitted(name, reml))
    assert fitted(name, reml).deviance == pytest.approx(dense.deviance(dense.at), abs=1e-7)


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@both_criteria
def test_the_dense_deviance_has_a_minimum_at_the_estimates(name, reml):
    gradient, hessian = surface(name, reml)
    assert np.linalg.eigvalsh(hessian)[0] > 0.0
    assert 0.5 * gradient @ np.linalg.solve(hessian, gradient) < 1e-7


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_coefficients_are_those_of_generalised_least_squares(name, reml):
    dense = Dense(fitted(name, reml))
    np.testing.assert_allclose(fitted(name, reml).params, dense(dense.at).beta, rtol=1e-7)


@pytest.mark.kept(
    "kind",
    "diagonal",
    "nested",
    "both",
    "by group",
    "offset",
    "no random terms",
    "no random terms, numeric",
)
@every_model
def test_their_covariance_is_that_of_generalised_least_squares(name):
    dense = Dense(fitted(name))
    found = fitted(name).cov_params()
    np.testing.assert_allclose(found, dense(dense.at).cov_beta, rtol=1e-6, atol=1e-10)


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_standard_errors_of_the_dispersion_are_the_dense_hessians(name, reml):
    fit = fitted(name, reml)
    _, hessian = surface(name, reml)
    expected = np.sqrt(np.diag(2.0 * np.linalg.inv(hessian)))[len(fit.theta) :]
    np.testing.assert_allclose(fit.dispersion["std_error"], expected, rtol=1e-4)


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_the_fit_is_certified(name, reml):
    assert fitted(name, reml).certificate.ok


@pytest.mark.kept(
    "kind",
    "diagonal",
    "nested",
    "both",
    "by group",
    "offset",
    "no random terms",
    "no random terms, numeric",
)
@every_model
def test_parameters_are_the_coefficients_theta_and_those_of_the_scale(name):
    fit = fitted(name)
    assert fit.df_modelwc == len(fit.params) + len(fit.theta) + len(fit.dispersion)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name][0] != "y ~ 0 + (1 | g)"])
@both_criteria
def test_satterthwaites_df_are_the_delta_method_on_the_dense_likelihood(name, reml):
    fit, dense = fitted(name, reml), Dense(fitted(name, reml))
    row = np.eye(len(fit.params))[1]
    _, hessian = surface(name, reml)

    def variance(point: np.ndarray) -> float:
        return float(row @ dense(point).cov_beta @ row)

    by_parameter = slope(variance, dense.at)
    spread = by_parameter @ (2.0 * np.linalg.solve(hessian, by_parameter))
    expected = 2.0 * variance(dense.at) ** 2 / spread
    assert fit.t_test(row)["df"].iloc[0] == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------------ the gradient


@pytest.mark.full
@given(cases(kinds=("ordinary", "some zero")))
def test_the_slope_by_log_weights_is_that_of_the_dense_deviance(case):
    design, codes = case.design, np.arange(case.rows) % 3
    solution = solve_pls(case.crossprod, case.theta, reml=case.reml)
    prior = np.ones(case.rows) if design.rows.weights is None else design.rows.weights
    found = score_log_weights(design.rows, solution, np.zeros(case.rows))

    def deviance(logs: np.ndarray) -> float:
        moved = design.with_weights(prior * np.exp(logs[codes]))
        return dense_model(moved, case.theta, reml=case.reml).deviance

    expected = slope(deviance, np.zeros(3))
    np.testing.assert_allclose(np.bincount(codes, found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["kind", "slopes", "crossed", "both", "weights"])
@both_criteria
def test_the_gradient_is_that_of_differences(name, reml):
    formula, dispersion, options = MODELS[name]
    design = build(mfx.parse(formula), frame(), residual=parse_dispersion(dispersion), **options)
    tight = Control(tolerance=1e-13)
    problem = ProfiledResidualDeviance(design, residual_model(design), reml=reml, control=tight)
    x = 0.3 * np.random.default_rng(1).normal(size=problem.model.n_params)
    expected = slope(lambda at: problem(at)[0], x)
    np.testing.assert_allclose(problem(x)[1], expected, rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------ one model, said differently


def refitted(name: str, data: pd.DataFrame, reml: bool = True, **options) -> mfx.Results:
    formula, dispersion, own = MODELS[name]
    return mfx.lmer(formula, data, **{"dispersion": dispersion, "reml": reml, **own, **options})


@pytest.mark.parametrize("name", ["kind", "no random terms"])
def test_a_formula_without_intercept_is_the_same_model(name):
    other = refitted(name, frame(), dispersion="~ 0 + kind")
    assert other.deviance == pytest.approx(fitted(name).deviance, abs=1e-9)
    np.testing.assert_allclose(other.residual_sd, fitted(name).residual_sd, rtol=1e-5)


def test_a_formula_without_intercept_has_each_strata_s_sd():
    other = refitted("kind", frame(), dispersion="~ 0 + kind")
    found = other.residual_sd.groupby(frame()["kind"]).first()
    np.testing.assert_allclose(other.dispersion["sd"], found, rtol=1e-12)


def test_a_formula_without_intercept_has_each_strata_s_standard_error():
    # A contrast of the other coding's coefficients, of their covariance.
    other = refitted("kind", frame(), dispersion="~ 0 + kind")
    change = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    expected = change @ fitted("kind").model.residual.cov @ change.T
    np.testing.assert_allclose(other.model.residual.cov, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.kept("kind", "no random terms")
@pytest.mark.parametrize("name", ["kind", "slopes", "crossed", "both", "no random terms"])
def test_the_order_of_rows_does_not_matter(name):
    moved = frame().sample(frac=1.0, random_state=1)
    other = refitted(name, moved)
    assert other.deviance == pytest.approx(fitted(name).deviance, abs=1e-9)
    expected = fitted(name).residual_sd
    np.testing.assert_allclose(other.residual_sd.sort_index(), expected, rtol=1e-5)


@pytest.mark.kept("1e-06-kind", "1000.0-no random terms")
@pytest.mark.parametrize("name", ["kind", "both", "no random terms"])
@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_the_unit_of_the_response_moves_only_the_intercept(name, unit):
    other = refitted(name, frame().assign(y=unit * frame()["y"]))
    expected = fitted(name).dispersion["estimate"].to_numpy().copy()
    expected[0] += np.log(unit)
    np.testing.assert_allclose(other.dispersion["estimate"], expected, rtol=0, atol=1e-5)


@pytest.mark.full
@pytest.mark.kept("REML")
@both_criteria
def test_a_column_far_from_zero_has_the_fit_of_its_centred_one(reml):
    far, near = (
        mfx.lmer(
            "y ~ x + (1 | g)",
            frame().assign(when=frame()["year"] - origin),
            dispersion="~ when",
            reml=reml,
        )
        for origin in (0.0, 2005.0)
    )
    assert far.deviance == pytest.approx(near.deviance, abs=1e-8)
    np.testing.assert_allclose(far.residual_sd, near.residual_sd, rtol=1e-5)
    pd.testing.assert_series_equal(
        far.dispersion.loc["when"], near.dispersion.loc["when"], rtol=1e-4
    )
    pd.testing.assert_series_equal(far.bse, near.bse, rtol=1e-5)
    assert far.t_test([0, 1])["df"].iloc[0] == pytest.approx(
        near.t_test([0, 1])["df"].iloc[0], rel=1e-4
    )


@pytest.mark.full
def test_the_log_sd_of_a_column_far_from_zero_is_known_as_well_at_its_middle():
    far, near = (
        mfx.lmer(
            "y ~ x + (1 | g)",
            frame().assign(when=frame()["year"] - origin),
            dispersion="~ when",
        )
        for origin in (0.0, 2005.0)
    )
    middle = np.array([1.0, 2005.0])
    found = middle @ far.model.residual.cov @ middle
    assert found == pytest.approx(near.model.residual.cov[0, 0], rel=1e-3)


@pytest.mark.full
@pytest.mark.kept("0.001")
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_the_weights_moves_only_the_intercept(scale):
    other = refitted("weights", frame().assign(w=scale * frame()["w"]))
    expected = fitted("weights").dispersion["estimate"].to_numpy().copy()
    expected[0] += 0.5 * np.log(scale)
    np.testing.assert_allclose(other.dispersion["estimate"], expected, rtol=0, atol=1e-5)


@pytest.mark.full
def test_a_refit_is_a_fit_of_the_new_response():
    y = frame()["y"] + frame()["z"]
    for name in ("kind", "weights", "offset"):
        again, anew = fitted(name).refit(y), refitted(name, frame().assign(y=y))
        assert again.deviance == pytest.approx(anew.deviance, abs=1e-9)


@pytest.mark.full
def test_rows_without_a_stratum_are_left_out():
    data = frame().assign(kind=frame()["kind"].where(frame().index != 7))
    fit, without = refitted("kind", data), refitted("kind", frame().drop(index=7))
    assert (fit.nobs, fit.deviance) == (71, pytest.approx(without.deviance, abs=1e-9))


@pytest.mark.full
@pytest.mark.kept("ML")
@both_criteria
def test_a_variance_of_zero_leaves_the_fit_without_the_term(reml):
    # Every group has the same mean, once x is taken account of: nothing is left between them.
    plain = mfx.lmer("y ~ x", frame(), dispersion="~ kind", reml=reml)
    means = plain.resid.groupby(frame()["g"]).transform("mean")
    data = frame().assign(y=frame()["y"] - means)
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ kind", reml=reml)
    without = mfx.lmer("y ~ x", data, dispersion="~ kind", reml=reml)
    assert fit.deviance == pytest.approx(without.deviance, abs=1e-7)
    np.testing.assert_allclose(fit.dispersion, without.dispersion, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ what is made of it


@cache
def romcom() -> mfx.Results:
    return mfx.lmer("rating ~ 1 + (1 | friend)", mfx.datasets.load("romcom"), dispersion="~ kind")


def test_a_comparison_with_one_residual_variance_is_the_likelihood_ratio():
    plain = mfx.lmer("y ~ x + (1 | g)", frame(), reml=False)
    table = mfx.compare(plain, fitted("kind", False))
    expected = plain.deviance - fitted("kind", False).deviance
    assert table["chisq"].iloc[1] == pytest.approx(expected, abs=1e-8)
    assert table["df"].iloc[1] == 2


@pytest.mark.full
def test_restricted_fits_are_compared_by_their_maximum_likelihood():
    table = mfx.compare(mfx.lmer("y ~ x + (1 | g)", frame()), fitted("kind"))
    assert -2 * table["llf"].iloc[1] == pytest.approx(fitted("kind", False).deviance, abs=1e-8)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["kind", "weights"])
def test_leaving_the_only_term_out_gives_the_fit_without_it(name):
    _, dispersion, options = MODELS[name]
    without = mfx.lmer("y ~ x", frame(), dispersion=dispersion, **options)
    expected = without.deviance - fitted(name).deviance
    assert fitted(name).ranova()["chisq"].iloc[1] == pytest.approx(expected, abs=1e-7)


@pytest.mark.full
def test_a_bootstraps_spread_is_near_the_standard_errors():
    # Of 80 draws a standard deviation has an error of 8 %; the parameters' own normality is
    # approximate with a hundred rows a kind.
    drawn = romcom().bootstrap(80, rng=1, progress=False).draws
    names = [f"dispersion({name})" for name in romcom().dispersion.index]
    ratio = drawn[names].std().to_numpy() / romcom().dispersion["std_error"]
    assert np.abs(ratio - 1.0).max() < 0.3


def test_a_wald_interval_is_the_estimate_and_two_standard_errors():
    found = romcom().conf_int(parm="dispersion(Intercept)").iloc[0]
    estimate, error = romcom().dispersion.loc["Intercept", ["estimate", "std_error"]]
    half = special.ndtri(0.975) * error
    np.testing.assert_allclose(found, [estimate - half, estimate + half], rtol=1e-12)


def test_simulated_responses_have_the_sds_of_their_strata():
    fit = fitted("kind")
    draws = fit.simulate(4000, rng=1).to_numpy()
    expected = float(fit.vcomp.iloc[0]) + fit.residual_sd.to_numpy() ** 2
    assert np.abs(draws.var(axis=1) / expected - 1.0).max() < 5 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("kind", ["calm", "usual", "wild"])
def test_a_prediction_interval_has_the_sd_of_the_new_rows_stratum(kind):
    fit = fitted("kind")
    new = pd.DataFrame({"x": [0.3], "g": [99], "kind": [kind]})
    table = fit.predict(new, interval="prediction", new_levels="population")
    row = np.array([1.0, 0.3])
    sd = fit.residual_sd[frame()["kind"] == kind].iloc[0]
    variance = row @ fit.cov_params().to_numpy() @ row + fit.vcomp.iloc[0] + sd**2
    half = (table["conf_high"] - table["conf_low"]).iloc[0] / 2
    assert half == pytest.approx(special.ndtri(0.975) * np.sqrt(variance), rel=1e-7)


@pytest.mark.full
def test_the_effects_covariance_is_the_estimated_one():
    fit = fitted("slopes")
    np.testing.assert_allclose(fit.cov_re, covariances(fit)[0], rtol=1e-10)


@pytest.mark.full
@pytest.mark.parametrize("parm", ["sd(Intercept | friend)", "sigma", "dispersion(kind[T.usual])"])
def test_limits_of_a_profile_have_the_zeta_of_the_definition(parm):
    films = mfx.datasets.load("romcom")
    fit = mfx.lmer("rating ~ 1 + (1 | friend)", films, dispersion="~ kind", reml=False)
    names = [
        "sd(Intercept | friend)",
        "sigma",
        "dispersion(kind[T.usual])",
        "dispersion(kind[T.erratic])",
    ]
    values = dict(
        zip(
            names,
            [fit.vcomp.iloc[0] ** 0.5, fit.sigma, *fit.dispersion["estimate"].iloc[1:]],
            strict=True,
        )
    )
    usual, erratic = (
        np.asarray(films["kind"] == kind, dtype=float) for kind in ("usual", "erratic")
    )
    others = [name for name in names if name != parm]

    def deviance(x, value):
        tau, sigma, a, b = (values | dict(zip(others, x, strict=True)) | {parm: value}).values()
        sds = sigma * np.exp(a * usual + b * erratic)
        return marginal(fit.model.original_design, [np.array([[tau**2]])], sds, reml=False).deviance

    start = np.array([values[name] for name in others])
    lowest = deviance(start, values[parm])
    assert lowest == pytest.approx(fit.deviance, abs=1e-7)
    for limit in fit.conf_int(method="profile", parm=parm).to_numpy()[0]:
        end = optimize.minimize(deviance, start, (limit,), "BFGS", options={"gtol": 1e-4})
        assert np.sqrt(end.fun - lowest) == pytest.approx(special.ndtri(0.975), abs=1e-5)


# ------------------------------------------------------------------ refusals


def test_kenward_and_roger_are_refused():
    with pytest.raises(ArgumentError, match="satterthwaite"):
        fitted("kind").t_test([0, 1], df_method="kenward-roger")


@pytest.mark.parametrize("engine", ["statsmodels", "em"])
def test_other_engines_are_refused(engine):
    with pytest.raises(EngineRefusal, match="engine='profiled'"):
        refitted("kind", frame(), engine=engine)


def test_random_effects_of_the_dispersion_are_refused_where_there_are_none():
    with pytest.raises(ArgumentError, match="no random term"):
        fitted("kind").dispersion_ranef()


def perfect(rows: int) -> pd.DataFrame:
    """A kind of its own for the first rows of a group, where y lies on a line."""
    at = frame().index < rows
    kind, y = frame()["kind"].mask(at, "dull"), frame()["y"].mask(at, 1.0 + frame()["x"])
    return frame().assign(kind=kind, y=y)


@both_criteria
@pytest.mark.parametrize("words", ["kind = dull (5 rows)", "fewer strata", "(1 | g)"])
def test_a_perfectly_fitted_stratum_is_named_with_both_ways_out(reml, words):
    with pytest.raises(DispersionError) as caught:
        refitted("kind", perfect(5), reml=reml)
    assert words in str(caught.value)


def test_a_row_that_the_coefficients_can_meet_is_no_stratum_under_maximum_likelihood():
    with pytest.raises(DispersionError, match=r"kind = dull \(1 row\)"):
        refitted("no random terms", perfect(1), reml=False)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("name", "reml"), [("no random terms", True), ("kind", False)])
def test_a_row_that_is_integrated_over_is_a_stratum(name, reml):
    # Under REML the coefficient, and with a random effect that, have a spread of their own: the
    # row's likelihood has an upper limit, and here its height is within.
    fit = refitted(name, perfect(1), reml=reml)
    dense = Dense(fit)
    gradient, hessian = slope(dense.deviance, dense.at), curvature(dense.deviance, dense.at)
    assert 0.5 * gradient @ np.linalg.solve(hessian, gradient) < 1e-7


def test_a_fit_with_one_residual_variance_has_no_dispersion():
    with pytest.raises(ArgumentError, match="dispersion="):
        mfx.lmer("y ~ x + (1 | g)", frame()).dispersion  # noqa: B018


@pytest.mark.full
def test_the_products_of_a_fit_are_those_of_its_weights():
    # What inference reads is what cross() gives for the weights found.
    fit = fitted("crossed").model
    again = solve_pls(compute_crossproducts(fit.design), fit.optimizer_result.theta, reml=True)
    assert again.deviance == pytest.approx(fit.deviance, abs=1e-9)
