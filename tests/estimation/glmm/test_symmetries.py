"""What must not change a generalised fit, or must change it in a known way.

Each claim is an identity of the likelihood: no expected number comes from a program, but for
statsmodels' GLM where there are no random effects.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from oracle import curvature, marginal
from patsy import dmatrix
from scipy import special

import mixedfx as mfx

# Deviances of searches that end within 1e-8 of the optimum; a coefficient is then within 1e-4 of
# its standard error, and theta about as near.
LLF, SHARE = 1e-7, 2e-4


def fit(formula, data, family="binomial", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mfx.glmer(formula, data, family=family, **options)


@pytest.fixture(scope="module")
def trials():
    """Successes k of n in two crossed factors."""
    rng = np.random.default_rng(11)
    rows, levels = 160, 16
    g, h = np.repeat(np.arange(levels), rows // levels), rng.integers(5, size=rows)
    x, f = np.round(rng.normal(size=rows), 1), rng.choice(["p", "q", "r"], rows)
    eta = (
        -0.3 + 0.6 * x + 0.5 * (f == "q") + rng.normal(size=levels)[g] + 0.4 * rng.normal(size=5)[h]
    )
    n = rng.integers(1, 9, rows)
    k = rng.binomial(n, special.expit(eta))
    counts = rng.poisson(np.exp(0.4 * eta + 1.0))
    return pd.DataFrame(
        {"k": k, "n": n, "m": n - k, "y": counts, "x": x, "f": f, "g": g, "h": h}
    ).astype({"g": str, "h": str})


def same(first, second, *, constant=0.0, scale=1.0):
    """Two fits with equal estimates, their log-likelihoods apart by a constant."""
    assert first.llf == pytest.approx(second.llf + constant, rel=0, abs=LLF)
    theirs = second.params.to_numpy() * scale
    np.testing.assert_allclose(
        (first.params.to_numpy() - theirs) / first.bse.to_numpy(), 0.0, atol=SHARE
    )
    np.testing.assert_allclose(first.bse, second.bse * np.abs(scale), rtol=SHARE)
    np.testing.assert_allclose(first.theta, second.theta, rtol=10 * SHARE, atol=10 * SHARE)


FORMULA = "cbind(k, m) ~ x + f + (x | g)"


def test_order_of_rows_does_not_matter(trials):
    shuffled = trials.sample(frac=1.0, random_state=1)
    same(fit(FORMULA, trials), fit(FORMULA, shuffled))


@pytest.mark.full
def test_names_and_order_of_levels_do_not_matter(trials):
    renamed = trials.assign(g=trials["g"].map(lambda level: f"z{99 - int(level)}"))
    first, second = fit(FORMULA, trials), fit(FORMULA, renamed)
    same(first, second)
    effects = second.ranef("g").rename(index=lambda level: str(99 - int(level[1:])))
    np.testing.assert_allclose(
        first.ranef("g"), effects.loc[first.ranef("g").index], rtol=0, atol=1e-4
    )


@pytest.mark.full
def test_levels_that_share_their_rows_with_nothing_else_are_one_level_by_any_name(trials):
    both = trials.assign(g2=trials["g"] + "_" + trials["g"])
    same(fit(FORMULA, trials), fit(FORMULA.replace("| g", "| g2"), both))


def _rows_of_one_trial(table):
    each = table.loc[table.index.repeat(table["n"])].copy()
    order = each.groupby(level=0).cumcount()
    return each.assign(z=(order < each["k"]).astype(float))


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_successes_of_trials_are_their_rows_of_zero_and_one(trials, link):
    merged = fit(FORMULA.replace("(x | g)", "(1 | g)"), trials, link=link)
    single = fit("z ~ x + f + (1 | g)", _rows_of_one_trial(trials), link=link)
    ways = special.gammaln(trials["n"] + 1) - special.gammaln(trials["k"] + 1)
    ways -= special.gammaln(trials["m"] + 1)
    same(merged, single, constant=ways.sum())


@pytest.mark.full
def test_proportions_with_trials_and_prop_are_cbind(trials):
    first = fit(FORMULA, trials)
    same(first, fit(FORMULA.replace("cbind(k, m)", "prop(k, n)"), trials))
    proportions = trials.assign(share=trials["k"] / trials["n"])
    same(first, fit(FORMULA.replace("cbind(k, m)", "share"), proportions, weights="n"))


@pytest.mark.kept("logit", "cauchit")
@pytest.mark.parametrize("link", ["logit", "probit", "cauchit"])
def test_successes_and_failures_swap_by_the_sign(trials, link):
    formula = "cbind(k, m) ~ x + f + (1 | g) + (1 | h)"
    first = fit(formula, trials, link=link)
    same(first, fit(formula.replace("k, m", "m, k"), trials, link=link), scale=-1.0)


def test_successes_and_failures_do_not_swap_by_an_asymmetric_link(trials):
    formula = "cbind(k, m) ~ x + (1 | g)"
    first = fit(formula, trials, link="cloglog")
    second = fit(formula.replace("k, m", "m, k"), trials, link="cloglog")
    assert abs(first.llf - second.llf) > 0.01


@pytest.mark.kept("poisson", "nbinom2")
@pytest.mark.parametrize("family", ["poisson", "nbinom2", "nbinom1"])
def test_a_constant_offset_shifts_the_intercept(trials, family):
    formula = "y ~ x + (1 | g)"
    first = fit(formula, trials, family)
    second = fit(formula, trials.assign(o=2.5), family, offset="o")
    assert first.llf == pytest.approx(second.llf, rel=0, abs=LLF)
    shift = (first.params - second.params).to_numpy()
    np.testing.assert_allclose(shift, [2.5, 0.0], atol=SHARE * first.bse.max())


def test_an_offset_is_a_column_with_a_coefficient_of_one(trials):
    formula = "y ~ x + (1 | g)"
    free = fit(formula, trials, "poisson")
    slope = free.params["x"]
    fixed = fit("y ~ 1 + (1 | g)", trials.assign(o=slope * trials["x"]), "poisson", offset="o")
    assert fixed.llf == pytest.approx(free.llf, rel=0, abs=LLF)
    assert fixed.theta == pytest.approx(free.theta, rel=10 * SHARE)


@pytest.mark.kept("binomial-cbind(k, m)-1000000.0", "poisson-y-1e-06")
@pytest.mark.parametrize("scale", [1e6, 1e-6])
@pytest.mark.parametrize(("family", "response"), [("binomial", "cbind(k, m)"), ("poisson", "y")])
def test_the_scale_of_a_covariate_does_not_matter(trials, family, response, scale):
    formula = f"{response} ~ x + f + (x | g)"
    first = fit(formula, trials, family)
    second = fit(formula, trials.assign(x=trials["x"] * scale), family)
    assert first.llf == pytest.approx(second.llf, rel=0, abs=LLF)
    ours = (second.params * np.where(second.params.index == "x", scale, 1.0)).to_numpy()
    np.testing.assert_allclose((ours - first.params) / first.bse, 0.0, atol=SHARE)


def test_the_origin_of_a_covariate_does_not_matter(trials):
    formula = "y ~ x + (x | g)"
    first = fit(formula, trials, "poisson")
    second = fit(formula, trials.assign(x=trials["x"] + 2000.0), "poisson")
    assert first.llf == pytest.approx(second.llf, rel=0, abs=LLF)
    assert first.params["x"] == pytest.approx(second.params["x"], abs=SHARE * first.bse["x"])


@pytest.mark.full
def test_coding_of_factors_does_not_matter(trials):
    first = fit("cbind(k, m) ~ x + f + (0 + f | g)", trials)
    second = fit("cbind(k, m) ~ x + C(f, Sum) + (f | g)", trials)
    assert first.llf == pytest.approx(second.llf, rel=0, abs=LLF)
    np.testing.assert_allclose(first.predict(), second.predict(), rtol=0, atol=1e-4)


@pytest.mark.full
def test_the_normal_family_is_lmer(trials):
    table = trials.assign(y=np.log1p(trials["y"]) + 0.3 * trials["h"].astype(int))
    for formula in ("y ~ x + f + (x | g)", "y ~ x + (1 | g) + (1 | h)"):
        generalised = fit(formula, table, "gaussian")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            linear = mfx.lmer(formula, table, reml=False)
        assert generalised.llf == pytest.approx(linear.llf, rel=0, abs=1e-8)
        np.testing.assert_allclose(generalised.params, linear.params, rtol=1e-5, atol=1e-5)
        [sigma] = generalised.model.residual.params
        assert sigma == pytest.approx(linear.sigma, rel=1e-4)
        # Theta is absolute, lmer's relative to sigma.
        np.testing.assert_allclose(generalised.theta, linear.theta * sigma, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            generalised.ranef("g"), linear.ranef("g"), rtol=0, atol=1e-3 * sigma
        )


@pytest.mark.full
def test_standard_errors_of_the_normal_family_are_of_the_hessian_by_all_parameters(trials):
    # lmer's are of beta alone: the mixed derivatives are zero in expectation, not as observed.
    table = trials.assign(y=np.log1p(trials["y"]))
    found = fit("y ~ x + (1 | g) + (1 | h)", table, "gaussian")
    m = len(found.theta)

    def deviance(v):
        covariances = [np.array([[sd**2]]) for sd in v[:m]]
        at = marginal(found.model.design, covariances, v[-1], reml=False, beta=v[m:-1])
        return at.deviance

    x = np.concatenate([found.theta, found.params, found.model.residual.params])
    expected = np.sqrt(np.diag(2.0 * np.linalg.inv(curvature(deviance, x))))
    np.testing.assert_allclose(found.bse, expected[m:-1], rtol=1e-4)


@pytest.mark.full
def test_prior_weights_of_counts_repeat_the_rows(trials):
    w = np.arange(len(trials)) % 3 + 1
    repeated = trials.loc[trials.index.repeat(w)]
    for family in ("poisson", "nbinom2"):
        weighted = fit("y ~ x + (1 | g)", trials.assign(w=w.astype(float)), family, weights="w")
        same(weighted, fit("y ~ x + (1 | g)", repeated, family))


@pytest.mark.full
def test_a_negative_binomial_without_overdispersion_is_poisson(trials):
    rng = np.random.default_rng(5)
    table = trials.assign(y=rng.binomial(6, 0.3 + 0.02 * (trials["g"].astype(int) % 5)))
    poisson = fit("y ~ x + (1 | g)", table, "poisson")
    for family in ("nbinom2", "nbinom1"):
        found = fit("y ~ x + (1 | g)", table, family)
        assert found.llf == pytest.approx(poisson.llf, rel=0, abs=1e-6)
        np.testing.assert_allclose(found.params, poisson.params, rtol=0, atol=1e-5)
        [alpha] = found.model.residual.params
        assert alpha < 1e-4


GLM = [
    ("binomial", "logit", sm.families.Binomial()),
    ("binomial", "probit", sm.families.Binomial(sm.families.links.Probit())),
    ("binomial", "cloglog", sm.families.Binomial(sm.families.links.CLogLog())),
    ("poisson", "log", sm.families.Poisson()),
]


@pytest.mark.parametrize(("family", "link", "theirs"), GLM)
def test_a_formula_without_random_terms_is_statsmodels_glm(trials, family, link, theirs):
    X = dmatrix("x + f", trials, return_type="dataframe")
    binomial = family == "binomial"
    found = fit("cbind(k, m) ~ x + f" if binomial else "y ~ x + f", trials, family, link=link)
    response = trials[["k", "m"]] if binomial else trials["y"]
    expected = sm.GLM(response, X, family=theirs).fit(tol=1e-14, maxiter=200)
    assert found.llf == pytest.approx(expected.llf, rel=0, abs=LLF)
    order = found.params.index
    np.testing.assert_allclose(found.params, expected.params[order], rtol=0, atol=1e-5)
    # statsmodels' default is the expected information, the same where the link is canonical.
    if link in ("logit", "log"):
        np.testing.assert_allclose(found.bse, expected.bse[order], rtol=SHARE)


def test_no_variance_is_statsmodels_glm_with_a_note():
    # Drawn without effects of g, and with too little scatter of its means for a variance.
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(30), 8), rng.normal(size=240)
    y = rng.random(240) < special.expit(0.3 + 0.5 * x)
    table = pd.DataFrame({"y": y.astype(float), "x": x, "g": g})
    found = fit("y ~ x + (1 | g)", table)
    expected = sm.GLM(table["y"], sm.add_constant(table["x"]), family=sm.families.Binomial()).fit()
    assert found.theta == pytest.approx([0.0], abs=0)
    assert found.is_singular
    assert found.certificate.ok
    assert found.llf == pytest.approx(expected.llf, rel=0, abs=LLF)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=SHARE)
    assert any("singular" in note for note in found.notes)


@pytest.mark.full
def test_nested_factors_are_the_factor_and_their_combinations(trials):
    first = fit("y ~ x + (1 | h/g)", trials, "poisson")
    second = fit("y ~ x + (1 | h) + (1 | h:g)", trials, "poisson")
    assert first.llf == pytest.approx(second.llf, rel=0, abs=LLF)
    np.testing.assert_allclose(np.sort(first.theta), np.sort(second.theta), atol=10 * SHARE)


@pytest.mark.kept("binomial", "poisson")
@pytest.mark.parametrize("family", ["binomial", "poisson", "nbinom2"])
def test_one_node_is_laplace_and_many_nodes_are_as_many_more(trials, family):
    formula = f"{'cbind(k, m)' if family == 'binomial' else 'y'} ~ x + (1 | g)"
    laplace = fit(formula, trials, family)
    same(laplace, fit(formula, trials, family, nagq=1))
    same(fit(formula, trials, family, nagq=15), fit(formula, trials, family, nagq=25))


@pytest.mark.full
def test_effects_of_two_terms_by_one_factor_are_those_of_a_diagonal_one(trials):
    same(
        fit("y ~ x + (1 | g) + (0 + x | g)", trials, "poisson"),
        fit("y ~ x + (x || g)", trials, "poisson"),
    )
    same(
        fit("y ~ x + (1 | g) + (0 + x | g)", trials, "poisson", nagq=5),
        fit("y ~ x + (x || g)", trials, "poisson", nagq=5),
    )
