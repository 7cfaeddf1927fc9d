"""Covariance parameters that the rows do not identify, and models that only seem unidentified.

Source of truth: the same model without the surplus, or in another spelling; lme4 1.1 with
``lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore",
check.nobs.vs.rankZ = "ignore", optimizer = "bobyqa")``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ConvergenceWarning, GroupingError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 8)
    x, z = rng.normal(size=96), 2.0 + rng.normal(size=96)
    u, s = rng.normal(size=12), 0.5 * rng.normal(size=12)
    return pd.DataFrame(
        {
            "y": 2.0 + x + u[g] + s[g] * x + 0.7 * rng.normal(size=96),
            "x": x,
            "z": z,
            "g": [f"s{i:02d}" for i in g],
            "g2": [f"t{i:02d}" for i in g],
            "h": np.tile(["u", "v"], 48),
        }
    )


# The random terms, the identified model with the same V, and what is said to be identified.
SUMS = {
    "(1 | g) + (x | g)": ("(x | g)", "sum of var(Intercept | g) of (1 | g) and (x | g) is"),
    "(x | g) + (0 + x | g)": ("(x | g)", "sum of var(x | g) of (x | g) and (0 + x | g) is"),
    "(1 | g) + (0 + h | g)": (
        "(0 + h | g)",
        "weighted sums of var(Intercept | g) of (1 | g) and var(h[u] | g), cov(h[u], h[v] | g) "
        "and var(h[v] | g) of (0 + h | g) are",
    ),
    "(0 + z | g) + (0 + I(2 * z) | g)": (
        "(0 + z | g)",
        "a weighted sum of var(z | g) of (0 + z | g) and var(I(2 * z) | g) of "
        "(0 + I(2 * z) | g) is",
    ),
    "(1 + z | g) + (0 + I(z - 3) | g)": ("(z | g)", "var(I(z - 3) | g) of (0 + I(z - 3) | g)"),
    "(1 | g) + (x | g2)": (
        "(x | g)",
        "sum of var(Intercept | g) of (1 | g) and var(Intercept | g2) of (x | g2) is",
    ),
    "(h | g2) + (0 + h | g)": ("(h | g)", "of (h | g2) and var(h[u] | g)"),
}


@pytest.mark.kept(
    "(1 | g) + (x | g)",
    "(1 | g) + (0 + h | g)",
    "(0 + z | g) + (0 + I(2 * z) | g)",
    "(1 | g) + (x | g2)",
)
@pytest.mark.filterwarnings("ignore:singular fit")  # of an identified model
@pytest.mark.parametrize("terms", SUMS)
def test_what_is_identified_is_named_and_the_fit_is_that_of_the_identified_model(data, terms):
    identified, statement = SUMS[terms]
    with pytest.warns(ConvergenceWarning, match="do not identify"):
        fit = mfx.lmer(f"y ~ x + {terms}", data)
    expected = mfx.lmer(f"y ~ x + {identified}", data)
    assert not fit.converged
    assert not fit.convergence.ok
    assert statement in " ".join(fit.convergence.unidentified)
    assert statement in str(fit.convergence)
    assert any(statement in note for note in fit.notes)
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-7)
    np.testing.assert_allclose(fit.params, expected.params, atol=1e-5)
    np.testing.assert_allclose(fit.bse, expected.bse, rtol=1e-4)
    assert np.isfinite(fit.pvalues).all()
    assert "identified" in str(fit.summary())


@pytest.mark.parametrize(
    "terms", ["(1 | g) + (0 + x | g)", "(x || g)", "(1 | g) + (1 | g:h)", "(h || g)", "(x | g)"]
)
def test_identified_neighbours_are_certified(data, terms):
    fit = mfx.lmer(f"y ~ x + {terms}", data)
    assert fit.convergence.unidentified == ()
    assert fit.converged
    assert fit.convergence.ok


def test_a_variance_of_zero_is_identified(data):
    shuffled = data.assign(y=np.random.default_rng(4).normal(size=96))
    with pytest.warns(mfx.errors.SingularFitWarning):
        fit = mfx.lmer("y ~ x + (x || g)", shuffled)
    assert fit.convergence.boundary
    assert fit.convergence.unidentified == ()
    assert fit.converged


def test_priors_identify_what_the_rows_do_not(data):
    # Not half-normal ones: their density is one of the sum of variances that the rows identify.
    priors = {"sd": mfx.priors.Gamma(2.0, 1.0)}
    fit = mfx.lmer("y ~ x + (1 | g) + (x | g)", data, priors=priors)
    assert fit.convergence.unidentified == ()


# ---------------------------------------------------------------- as many effects as rows


def pre_post():
    rng = np.random.default_rng(13)
    m = 40
    level, t = np.repeat(np.arange(m), 2), np.tile([0, 1], m)
    u, s = rng.normal(size=m), 0.8 * rng.normal(size=m)
    y = 1 + 0.5 * t + u[level] + s[level] * t + 0.6 * rng.normal(size=2 * m)
    first = pd.DataFrame({"id": level, "t": t, "y": y.round(4)})
    level, f = np.repeat(np.arange(30), 3), np.tile(list("abc"), 30)
    u, s, v = rng.normal(size=30), rng.normal(size=30), 0.7 * rng.normal(size=30)
    y = 1 + u[level] + s[level] * (f == "b") + v[level] * (f == "c") + 0.5 * rng.normal(size=90)
    second = pd.DataFrame({"id": level, "f": f, "y": y.round(4)})
    level, x = np.repeat(np.arange(40), 2), rng.normal(size=80).round(3)
    u, s = rng.normal(size=40), 0.8 * rng.normal(size=40)
    y = 1 + 0.5 * x + u[level] + s[level] * x + 0.6 * rng.normal(size=80)
    return first, second, pd.DataFrame({"id": level, "x": x, "y": y.round(4)})


PAIRS, THREE, SLOPES = pre_post()

# logLik(lmer(...)) by REML and by ML; fb and fc of the three levels are indicators in R.
LME4 = [
    ("y ~ t + (t || id)", PAIRS, (-127.103796285, -125.566689559)),
    ("y ~ t + diag(t | id)", PAIRS, (-127.103796285, -125.566689559)),
    ("y ~ t + (1 | id) + (0 + t | id)", PAIRS, (-127.103796285, -125.566689559)),
    ("y ~ f + (f || id)", THREE, (-143.849023917, -142.006045186)),
    ("y ~ x + (x | id)", SLOPES, (-124.860822597, -123.320855937)),
]


@pytest.mark.kept(
    "y ~ t + (t || id)-True",
    "y ~ t + diag(t | id)-False",
    "y ~ t + (1 | id) + (0 + t | id)-False",
    "y ~ f + (f || id)-True",
    "y ~ x + (x | id)-False",
)
@pytest.mark.filterwarnings("ignore:singular fit")  # lme4's standard deviation is 2e-8 too
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("formula", "frame", "expected"), LME4, ids=[case[0] for case in LME4])
def test_as_many_effects_as_rows_match_lme4(formula, frame, expected, reml):
    fit = mfx.lmer(formula, frame, reml=reml)
    assert fit.llf == pytest.approx(expected[0 if reml else 1], abs=1e-7)
    assert fit.converged
    assert fit.convergence.ok


@pytest.mark.parametrize(
    ("formula", "frame", "named"),
    [
        ("y ~ t + (t | id)", PAIRS, "(t | id) has 80 effects"),
        ("y ~ t + diag(0 + C(t) | id)", PAIRS, "(0 + C(t) || id) has 80 effects"),
        ("y ~ f + (f | id)", THREE, "(f | id) has 90 effects"),
        ("y ~ f + (1 | id) + (0 + f || id)", THREE, "(0 + f || id) has 90 effects"),
        ("y ~ x + (x | id)", SLOPES.assign(x=np.tile([-1.0, 2.0], 40)), "(x | id)"),
    ],
)
def test_terms_that_take_the_residual_over_are_refused(formula, frame, named):
    with pytest.raises(GroupingError, match="cannot be told from the residual's") as error:
        mfx.lmer(formula, frame)
    assert named in str(error.value)


# ---------------------------------------------------------------- modelled residual variances


@pytest.mark.full
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("terms", "identified"), [("(t || id)", "(1 | id)"), ("(1 | id) + (0 + t | id)", "(1 | id)")]
)
def test_a_slope_and_a_residual_difference_of_pairs_are_known_in_their_sum_only(
    terms, identified, reml
):
    # V of a pair is [[a + r0, a], [a, a + b + r1]]: b and r1 enter as b + r1.
    data, options = pre_post()[0], {"dispersion": "~ t", "reml": reml}
    with pytest.warns(ConvergenceWarning, match="do not identify"):
        fit = mfx.lmer(f"y ~ t + {terms}", data, **options)
    expected = mfx.lmer(f"y ~ t + {identified}", data, **options)
    assert not fit.converged
    assert not fit.convergence.ok
    (statement,) = fit.convergence.unidentified
    assert "only sums of var(t | id) of" in statement
    assert np.isnan(fit.dispersion["std_error"].iloc[-1])
    assert "and the residual variances of dispersion='~ t' are identified" in statement
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-6)
    np.testing.assert_allclose(fit.params, expected.params, atol=1e-5)
    np.testing.assert_allclose(fit.bse, expected.bse, rtol=1e-4)
    assert "identified" in str(fit.summary())


@pytest.mark.kept("(1 | id)", "(t | id)")
@pytest.mark.parametrize("terms", ["(1 | id)", "(t | id)", "(t || id)"])
def test_modelled_residual_variances_that_are_identified_are_certified(terms):
    # Three rows a cell tell the residual from the slope.
    data = pd.concat([pre_post()[0]] * 3, ignore_index=True)
    data["y"] += 0.4 * (1 + data["t"]) * np.random.default_rng(3).normal(size=len(data))
    fit = mfx.lmer(f"y ~ t + {terms}", data, dispersion="~ t")
    assert fit.convergence.unidentified == ()
    assert fit.converged
    assert fit.convergence.ok
