"""Positions of each subject's own: pattern by pattern as with the covariance of all positions."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.inference.parameters import parameters
from mixedfx.residuals import irregular
from mixedfx.residuals.irregular import Irregular


@cache
def visits(n: int = 60) -> pd.DataFrame:
    """Subjects at up to six real times each, none of them shared, in two arms."""
    rng = np.random.default_rng(8)
    v = 6
    t = np.sort(rng.uniform(0.0, 10.0, (n, v)), axis=1)
    e = rng.standard_normal((n, v))
    for j in range(1, v):
        r = np.exp(-0.7 * (t[:, j] - t[:, j - 1]))
        e[:, j] = r * e[:, j - 1] + np.sqrt(1.0 - r**2) * e[:, j]
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), v),
            "t": t.ravel(),
            "u": rng.uniform(0.0, 3.0, n * v),
            "x": rng.standard_normal(n * v),
            "item": rng.integers(0, 9, n * v),
        }
    )
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    data["y"] = 1.0 + 0.3 * data["x"] + 2.0 * e.ravel() + rng.standard_normal(9)[data["item"]]
    return data[rng.random(n * v) > 0.2].reset_index(drop=True)


MODELS = {
    "ou": ("y ~ x", "ou(t | id)"),
    "exp": ("y ~ x", "exp(t + u | id)"),
    "gau": ("y ~ x", "gau(t | id)"),
    "mat": ("y ~ x", "mat(t | id)"),
    "crossed": ("y ~ x + (1 | item)", "ou(t | id)"),
    "by arm": ("y ~ x", "exp(t | arm / id)"),
}
DEFAULT = ["ou", "exp", "crossed", "by arm"]


@cache
def both(name):
    """The fit pattern by pattern, and that with the covariance of all positions."""
    fits, (formula, residual) = [], MODELS[name]
    data = visits(24) if name == "by arm" else visits()
    for least in (1, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(irregular, "MIN_POSITIONS", least)
            fits.append(mfx.lmer(formula, data, residual=residual))
    assert isinstance(fits[0].model.residual.model, Irregular)
    assert not isinstance(fits[1].model.residual.model, Irregular)
    return fits


def _is_the_fit_of_all_positions(name):
    own, whole = both(name)
    assert own.deviance == pytest.approx(whole.deviance, abs=1e-7)
    for of in (
        lambda fit: fit.params,
        lambda fit: fit.bse,
        lambda fit: fit.varcorr["sdcor"],
        lambda fit: fit.residuals(kind="normalized"),
        lambda fit: fit.augment()["hat"],
    ):
        np.testing.assert_allclose(of(own), of(whole), rtol=1e-4, atol=1e-5)
    tables = [fit.tidy()[["std_error", "df"]] for fit in (own, whole)]
    np.testing.assert_allclose(*tables, rtol=1e-4)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for([m for m in MODELS if m != "mat"], DEFAULT))
def test_it_is_the_fit_with_the_covariance_of_all_positions(name):
    _is_the_fit_of_all_positions(name)


@pytest.mark.slow
def test_a_matern_fit_is_that_with_the_covariance_of_all_positions():
    _is_the_fit_of_all_positions("mat")


@pytest.mark.full
def test_everything_that_needs_other_covariances_agrees():
    own, whole = both("ou")
    new = pd.concat([visits().head(4).assign(t=lambda d: d["t"] + 0.1), visits().tail(2)])
    for of in (
        lambda fit: fit.predict(new),
        lambda fit: fit.predict(new, interval="prediction")["conf_low"],
        lambda fit: fit.residual_cov().to_numpy(),
        lambda fit: fit.simulate(2, rng=1),
        lambda fit: fit.tidy(df_method="kenward-roger")["df"],
        lambda fit: fit.influence("id").iloc[:, 0],
        lambda fit: fit.conf_int(),
    ):
        np.testing.assert_allclose(of(own), of(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.full
def test_it_can_be_kept(tmp_path):
    own, _ = both("ou")
    own.save(tmp_path / "fit.mfx")
    kept = mfx.read(tmp_path / "fit.mfx")
    assert kept.deviance == own.deviance
    np.testing.assert_array_equal(
        kept.residuals(kind="normalized"), own.residuals(kind="normalized")
    )


def test_tables_of_all_positions_are_refused_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(irregular, "MIN_POSITIONS", 1)
    monkeypatch.setattr(irregular, "MAX_WHOLE", 100)
    own = mfx.lmer("y ~ x", visits(), residual="ou(t | id)")
    with pytest.raises(ArgumentError, match="needs the covariance of all positions"):
        own.residual_cov()
    with pytest.raises(ArgumentError, match="df_method='satterthwaite'"):
        own.tidy(df_method="kenward-roger")
    assert own.tidy(df_method="satterthwaite")["df"].gt(0).all()


@pytest.mark.full
def test_thousands_of_times_take_no_matrix_of_all_of_them():
    rng = np.random.default_rng(2)
    n, v = 600, 4
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), v),
            "t": np.sort(rng.uniform(0.0, 5.0, (n, v)), axis=1).ravel(),
            "y": rng.standard_normal(n * v) + 0.4 * np.repeat(rng.standard_normal(n), v),
        }
    )
    fit = mfx.lmer("y ~ 1", data, residual="ou(t | id)")
    assert fit.certificate.ok
    assert fit.model.residual.model.covariances(fit.model.residual.params).shape == (n, v, v)


@pytest.mark.cases(1)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["ou", "crossed"])
def test_its_deviance_is_the_dense_one(name, reml):
    """Beside a factor that crosses the subjects, whose own cross-products are not diagonal."""
    formula, residual = MODELS[name]
    data = visits()
    fit = mfx.lmer(formula, data, residual=residual, reml=reml)
    assert fit.certificate.ok
    of = {p.name: p.value for p in parameters(fit.model)}
    t, ids = data["t"].to_numpy(), data["id"].to_numpy()
    apart = np.abs(np.subtract.outer(t, t))
    V = np.where(np.equal.outer(ids, ids), np.exp(-of["rate(t | id)"] * apart), 0.0)
    V *= of["sd(t | id)"] ** 2
    if name == "crossed":
        items = data["item"].to_numpy()
        V += of["sd(Intercept | item)"] ** 2 * np.equal.outer(items, items)
    X = np.column_stack([np.ones(len(t)), data["x"]])
    XtVX = X.T @ np.linalg.solve(V, X)
    e = data["y"].to_numpy() - X @ fit.params.to_numpy()
    expected = np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
    expected += (len(t) - 2 * reml) * np.log(2 * np.pi) + reml * np.linalg.slogdet(XtVX)[1]
    assert fit.deviance == pytest.approx(expected, abs=1e-7)
    np.testing.assert_allclose(fit.cov_params(), np.linalg.inv(XtVX), rtol=1e-6)


@pytest.mark.kept("gau(Days | Subject)")
@pytest.mark.parametrize("residual", ["mat(Days | Subject)", "gau(Days | Subject)"])
def test_smooth_processes_whose_long_ranges_are_singular_are_fitted(residual):
    fit = mfx.lmer("Reaction ~ Days", mfx.datasets.load("sleepstudy"), residual=residual)
    assert fit.converged


def test_one_standard_deviation_alone_is_the_fit_without_a_structure():
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ Days", sleep, residual="homdiag(Days | Subject)")
    plain = mfx.lmer("Reaction ~ Days", sleep)
    assert fit.deviance == pytest.approx(plain.deviance, abs=1e-8)
    np.testing.assert_allclose(fit.bse, plain.bse, rtol=1e-8)
