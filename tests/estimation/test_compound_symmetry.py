"""Residuals of compound symmetry by statsmodels, as the random intercept that they are."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import EngineRefusal


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """Sleepstudy without a sixth of its rows."""
    data = mfx.datasets.load("sleepstudy")
    return data[np.random.default_rng(3).random(len(data)) > 1 / 6]


@pytest.mark.cases(1)
@pytest.mark.parametrize("reml", [True, False])
def test_statsmodels_fits_it_as_a_random_intercept(visits, reml):
    by_residual = {"residual": "cs(Days | Subject)", "reml": reml}
    ours = mfx.lmer("Reaction ~ Days", visits, **by_residual)
    theirs = mfx.lmer("Reaction ~ Days", visits, engine="statsmodels", **by_residual)
    nested = mfx.lmer("Reaction ~ Days + (1 | Subject)", visits, reml=reml)
    assert theirs.engine == "statsmodels"
    for other in (ours, nested):
        assert theirs.deviance == pytest.approx(other.deviance, abs=1e-7)
        np.testing.assert_allclose(theirs.params, other.params, rtol=1e-6)
        np.testing.assert_allclose(theirs.bse, other.bse, rtol=1e-5)
    mixedlm = theirs.statsmodels
    between, within = float(mixedlm.cov_re.iloc[0, 0]), float(mixedlm.scale)
    (corr,) = (c.value for c in ours.model.residual.components if c.name.startswith("corr("))
    assert corr == pytest.approx(between / (between + within), rel=1e-4)


def test_a_negative_correlation_is_refused(visits):
    centred = visits.groupby("Subject")["Reaction"].transform("mean")
    noise = 20.0 * np.random.default_rng(4).standard_normal(len(visits))
    data = visits.assign(y=visits["Reaction"] - centred + noise)
    assert mfx.lmer("y ~ Days", data, residual="cs(Days | Subject)").certificate
    with pytest.raises(EngineRefusal, match="correlation is positive; the estimate is -"):
        mfx.lmer("y ~ Days", data, residual="cs(Days | Subject)", engine="statsmodels")


@pytest.mark.parametrize(
    ("formula", "residual", "engine", "message"),
    [
        ("Reaction ~ Days", "ar1(Days | Subject)", "statsmodels", "no other structure"),
        ("Reaction ~ Days + (1 | Subject)", "cs(Days | Subject)", "statsmodels", "not beside"),
        ("Reaction ~ Days", "cs(Days | Subject)", "em", "engine='em' knows one residual variance"),
    ],
)
def test_what_an_engine_cannot_fit_is_refused(visits, formula, residual, engine, message):
    with pytest.raises(EngineRefusal, match=message):
        mfx.lmer(formula, visits, residual=residual, engine=engine)
    assert mfx.lmer("Reaction ~ Days", visits, residual=residual, engine="profiled").converged
