"""``residual=`` with ``dispersion=``: against the dense definition, nlme, and symmetries."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MixedfxError
from mixedfx.inference.parameters import parameters


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """80 patients of two arms, the second of twice the scatter, with visits missing."""
    rng = np.random.default_rng(20)
    n, k = 80, 5
    patient, visit = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(k), np.arange(k))))
    e = (root @ rng.standard_normal((k, n))).T.ravel()
    data = pd.DataFrame(
        {
            "patient": patient,
            "visit": visit,
            "arm": np.where(patient % 2, "b", "a"),
            "x": rng.standard_normal(n * k),
            "rater": rng.integers(0, 12, n * k),
        }
    )
    scale = np.where(data["arm"] == "b", 2.0, 1.0)
    data["y"] = 1.0 + 0.3 * data["x"] + scale * e + 0.5 * rng.standard_normal(12)[data["rater"]]
    return data[rng.random(n * k) > 0.15].reset_index(drop=True)


def dense_deviance(data, beta, sd, corr, gamma, rater_sd, *, reml=True):
    """Definition of the deviance with ar1 residuals, scaled by arm and x, and raters."""
    scale = sd * np.exp(gamma[0] * (data["arm"] == "b") + gamma[1] * data["x"]).to_numpy()
    same = np.equal.outer(data["patient"].to_numpy(), data["patient"].to_numpy())
    lag = np.abs(np.subtract.outer(data["visit"].to_numpy(), data["visit"].to_numpy()))
    V = np.where(same, np.outer(scale, scale) * corr**lag, 0.0)
    V += rater_sd**2 * np.equal.outer(data["rater"].to_numpy(), data["rater"].to_numpy())
    X = np.column_stack([np.ones(len(data)), data["x"]])
    e = data["y"].to_numpy() - X @ beta
    n, p = X.shape
    deviance = np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e) + n * np.log(2 * np.pi)
    if reml:
        deviance += np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1] - p * np.log(2 * np.pi)
    return float(deviance)


@pytest.mark.full
@pytest.mark.kept("True")
@pytest.mark.parametrize("reml", [True, False])
def test_it_is_an_optimum_of_the_dense_deviance(trial, reml):
    fit = mfx.lmer(
        "y ~ x + (1 | rater)",
        trial,
        residual="ar1(visit | patient)",
        dispersion="~ arm + x",
        reml=reml,
    )
    assert fit.certificate
    of = values(fit)
    z = [
        np.log(of["sd(visit | patient)"]),
        np.arctanh(of["corr(visit | patient)"]),
        of["dispersion(arm[T.b])"],
        of["dispersion(x)"],
        np.log(of["sd(Intercept | rater)"]),
    ]
    assert list(fit.dispersion.index) == ["arm[T.b]", "x"]

    def deviance(z):
        sd, corr, rater_sd = np.exp(z[0]), np.tanh(z[1]), np.exp(z[4])
        return dense_deviance(trial, fit.params.to_numpy(), sd, corr, z[2:4], rater_sd, reml=reml)

    assert deviance(z) == pytest.approx(fit.deviance, abs=1e-8)
    assert np.abs(approx_fprime(z, deviance, 1e-6)).max() < 5e-3


def values(fit):
    """Reported estimates of all parameters."""
    return {p.name: p.value for p in parameters(fit.model)}


def test_equal_to_gls_of_nlme(trial):
    # R 4.5, nlme: gls(y ~ x, d, corAR1(form = ~visit | patient), varIdent(form = ~1 | arm)), REML
    fit = mfx.lmer("y ~ x", trial, residual="ar1(visit | patient)", dispersion="~ arm")
    assert fit.llf == pytest.approx(-561.163399784075, abs=1e-6)
    np.testing.assert_allclose(fit.params, [0.851361851623115, 0.335326197491236], rtol=1e-5)
    np.testing.assert_allclose(fit.bse, [0.107646615605234, 0.0592148542084696], rtol=1e-5)
    of = values(fit)
    assert of["corr(visit | patient)"] == pytest.approx(0.573347367405828, rel=1e-4)
    assert np.exp(of["dispersion(arm[T.b])"]) == pytest.approx(2.014241050859927, rel=1e-4)


def test_strata_of_the_structure_are_its_scale(trial):
    """Two scales of one correlation: with equal correlations ``us`` by arm is above it."""
    scaled = mfx.lmer("y ~ x", trial, residual="us(visit | patient)", dispersion="~ arm")
    by_arm = mfx.lmer("y ~ x", trial, residual="us(visit | arm / patient)")
    plain = mfx.lmer("y ~ x", trial, residual="us(visit | patient)")
    assert by_arm.deviance < scaled.deviance < plain.deviance


@pytest.mark.full
def test_other_units_and_coding_do_not_matter(trial):
    first = mfx.lmer("y ~ x", trial, residual="cs(visit | patient)", dispersion="~ arm + x")
    changed = trial.assign(y=1000 * trial["y"], x2=7 - 100 * trial["x"])
    second = mfx.lmer("y ~ x", changed, residual="cs(visit | patient)", dispersion="~ 0 + arm + x2")
    assert second.llf == pytest.approx(first.llf - (len(trial) - 2) * np.log(1000), abs=1e-6)
    gamma = second.dispersion["estimate"]
    assert gamma["x2"] == pytest.approx(-first.dispersion["estimate"]["x"] / 100, rel=1e-4)


@pytest.mark.parametrize(
    ("residual", "dispersion", "message"),
    [
        ("us(visit | patient)", "~ factor(visit)", "standard deviations of its own"),
        ("ar1h(visit | patient)", "~ arm + visit", "standard deviations of its own"),
        ("us(visit | arm / patient)", "~ arm", "standard deviations of its own"),
        ("ar1(visit | patient)", "~ 1", "varies within nothing"),
        ("ar1(visit | patient)", "~ arm + (1 | rater)", r"leave \(1 \| rater\) out"),
        ("ar1(visit | patient)", "~ y", "reads the response"),
    ],
)
def test_refused(trial, residual, dispersion, message):
    with pytest.raises(MixedfxError, match=message):
        mfx.lmer("y ~ x", trial, residual=residual, dispersion=dispersion)


@pytest.mark.full
def test_kenward_roger_of_many_values_is_refused_with_what_to_take(trial):
    fit = mfx.lmer("y ~ x", trial, residual="ar1(visit | patient)", dispersion="~ x")
    with pytest.raises(ArgumentError, match="df_method='satterthwaite'"):
        fit.anova(df_method="kenward-roger")


@pytest.mark.full
def test_kenward_roger_does_not_depend_on_which_arm_comes_first(trial):
    tables = [
        mfx.lmer("y ~ arm", trial, residual="ar1(visit | patient)", dispersion=f"~ {arm}").tidy(
            df_method="kenward-roger"
        )
        for arm in ("arm", "C(arm, Treatment('b'))")
    ]
    np.testing.assert_allclose(tables[0]["std_error"], tables[1]["std_error"], rtol=1e-5)
    np.testing.assert_allclose(tables[0]["df"], tables[1]["df"], rtol=1e-3)
