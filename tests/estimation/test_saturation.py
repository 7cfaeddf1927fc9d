"""Models whose random effects reproduce any response: the reason is named.

lme4 refuses a term of as many effects as rows by ``check.nobs.vs.nRE``; without that check its
deviance falls as theta grows, as here.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

REASON = r"can reproduce the response.* of rank \d+, the number of rows"


def few_rows(seed: int) -> pd.DataFrame:
    """Rows whose levels mostly have one or two."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 30))
    g = rng.integers(0, n // 2, n)
    columns = {name: rng.normal(size=n) for name in ("y", "x", "z")}
    return pd.DataFrame({**columns, "g": g, "w": rng.choice(list("ab"), n)})


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("seed", [6, 8, 14, 27, 35])
def test_the_columns_are_named_in_an_error_or_a_note(seed, reml):
    # Rounding decides whether a search ends, unconverged, or digits are lost before.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = mfx.lmer("y ~ x + (x + z | g:w)", few_rows(seed), reml=reml)
            assert not fit.converged
            said = " ".join(str(warning.message) for warning in caught)
        except mfx.errors.ResponseError as error:
            said = str(error)
    assert re.search(REASON, said)


@pytest.mark.parametrize("seed", [6, 8])
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_leaving_the_slopes_out_leads_to_an_optimum(seed):
    assert mfx.lmer("y ~ x + z + (1 | g:w)", few_rows(seed)).converged


def test_another_reason_is_not_taken_for_this_one():
    frame = pd.DataFrame({"g": np.repeat(np.arange(6), 4), "x": np.arange(24.0)})
    frame["y"] = frame["g"] ** 2.0
    with pytest.raises(mfx.errors.ResponseError, match="within whose levels"):
        mfx.lmer("y ~ x + (1 | g)", frame)


def test_a_structure_that_takes_all_variance_is_that_of_the_residuals():
    # Rows by definition without other residuals than those of an AR(1) process.
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "t": np.tile(np.arange(6), 8)})
    lags = abs(np.subtract.outer(np.arange(6), np.arange(6)))
    root = np.linalg.cholesky(0.7**lags)
    frame["y"] = (rng.normal(size=(8, 6)) @ root.T).ravel()
    with pytest.warns(mfx.errors.ConvergenceWarning, match=r"as the covariance of the residuals"):
        fit = mfx.lmer("y ~ 1 + ar1(0 + t | g)", frame)
    advised = mfx.lmer("y ~ 1", frame, residual="ar1(t | g)")
    assert advised.converged
    assert advised.deviance <= fit.deviance + 1e-7
