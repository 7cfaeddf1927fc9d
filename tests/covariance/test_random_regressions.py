"""Several effects of each level with a relationship matrix: covariance ``G (x) A``.

Source of truth: V written out from the definition, ``Z (G (x) A) Z' + R``, with the criterion
minimised by nobody here: at the fit's own estimates the definition gives its numbers, and no
covariance beside it a lower criterion; and identities (A = I, A = B B').
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from covariance.test_relationship import pedigree, tabular

import mixedfx as mfx


@dataclass(frozen=True)
class Herd:
    """Records of half the animals of a pedigree: two traits, and a slope on age."""

    data: pd.DataFrame
    A: pd.DataFrame
    columns: tuple


def herd_of(seed, n=240, size=40):
    rng = np.random.default_rng(seed)
    ids, sires, dams = pedigree(rng, size)
    A = tabular(ids, sires, dams)
    b = (
        np.linalg.cholesky(A)
        @ rng.normal(size=(size, 3))
        @ [[1.0, 0.4, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 1.0]]
    )
    animal = rng.choice(np.arange(0, size, 2), n)
    age, trait = rng.normal(size=n), rng.integers(0, 2, n)
    herd = rng.integers(0, 6, n)
    data = pd.DataFrame(
        {
            "animal": [ids[i] for i in animal],
            "dam": [ids[i] for i in rng.choice(np.arange(0, size, 3), n)],
            "herd": [f"h{h}" for h in herd],
            "trait": np.where(trait, "milk", "fat"),
            "age": age,
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = 3.0 + 0.5 * data["x"] + b[animal, 0] + age * b[animal, 1] + trait * b[animal, 2]
    data["y"] += 0.6 * rng.normal(size=6)[herd] + rng.normal(size=n) / np.sqrt(data["w"])
    return Herd(data, pd.DataFrame(A, ids, ids), (ids, sires, dams))


HERD = herd_of(1)
EFFECTS = {
    "(1 + age | animal)": lambda d: np.column_stack([np.ones(len(d)), d["age"]]),
    "(age || animal)": lambda d: np.column_stack([np.ones(len(d)), d["age"]]),
    "(0 + trait | animal)": lambda d: pd.get_dummies(d["trait"]).to_numpy(dtype=float),
    "(1 | animal) + (0 + age | animal)": lambda d: np.column_stack([np.ones(len(d)), d["age"]]),
}


def indicators(column, names):
    return (column.to_numpy()[:, None] == np.array(names)).astype(float)


def columns_of_effects(data, effects, names):
    """Z of the effects, effect by effect, each of all animals: covariance ``G (x) A``."""
    Z = indicators(data["animal"], names)
    return np.column_stack([z[:, None] * Z for z in effects(data).T])


@dataclass(frozen=True)
class Definition:
    """Criterion, coefficients, and moments of all animals' effects, at a V."""

    criterion: float
    beta: np.ndarray
    modes: np.ndarray
    cond_sd: np.ndarray


def definition(data, Z, C, V, *, reml):
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    beta = np.linalg.solve(information, X.T @ Vi @ y)
    r = y - X @ beta
    criterion = np.linalg.slogdet(V)[1] + r @ Vi @ r
    criterion += (np.linalg.slogdet(information)[1] if reml else 0.0) + (
        len(y) - (2 if reml else 0)
    ) * np.log(2.0 * np.pi)
    CZ = C @ Z.T
    conditional = C - CZ @ Vi @ CZ.T
    return Definition(criterion, beta, CZ @ Vi @ r, np.sqrt(np.diag(conditional)))


def fit_of(effects, *, reml=True, weights=None, relmat=None, further=" + (1 | herd)"):
    relmat = {"animal": HERD.A} if relmat is None else relmat
    formula = f"y ~ x + {effects}{further}"
    return mfx.lmer(formula, HERD.data, reml=reml, weights=weights, relmat=relmat)


def at_estimates(fit, effects, *, reml, weights=None, G=None):
    data, names = HERD.data, list(HERD.A.index)
    G = fit.cov_re["animal"].to_numpy() if G is None else G
    Z, C = columns_of_effects(data, EFFECTS[effects], names), np.kron(G, HERD.A)
    herds = indicators(data["herd"], sorted(set(data["herd"])))
    R = np.eye(len(data)) if weights is None else np.diag(1.0 / data[weights])
    V = Z @ C @ Z.T + fit.scale * R
    V += fit.cov_re["herd"].to_numpy()[0, 0] * herds @ herds.T
    return definition(data, Z, C, V, reml=reml)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize(("reml", "weights"), [(True, None), (False, "w")])
def test_fit_is_that_of_the_dense_definition(effects, reml, weights):
    fit = fit_of(effects, reml=reml, weights=weights)
    expected = at_estimates(fit, effects, reml=reml, weights=weights)
    assert fit.certificate.ok
    assert fit.deviance == pytest.approx(expected.criterion, abs=1e-7)
    np.testing.assert_allclose(fit.params, expected.beta, rtol=1e-7)
    found = fit.ranef("animal", cond_sd=True).loc[HERD.A.index]  # half without records
    k = found.shape[1] // 2
    np.testing.assert_allclose(found.iloc[:, :k].T.to_numpy().ravel(), expected.modes, atol=1e-7)
    np.testing.assert_allclose(found.iloc[:, k:].T.to_numpy().ravel(), expected.cond_sd, rtol=1e-6)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("effects", ["(1 + age | animal)", "(age || animal)"])
@pytest.mark.parametrize("reml", [True, False])
def test_no_covariance_beside_that_of_the_fit_has_a_lower_criterion(effects, reml):
    fit, rng = fit_of(effects, reml=reml), np.random.default_rng(3)
    G = fit.cov_re["animal"].to_numpy()
    free = np.ones((2, 2)) if "||" not in effects else np.eye(2)
    for _ in range(6):
        E = 0.02 * rng.normal(size=(2, 2))
        moved = at_estimates(fit, effects, reml=reml, G=G + (E + E.T) * free)
        assert moved.criterion > fit.deviance


@pytest.mark.full
def test_forms_of_the_matrix_are_one_model():
    dense = fit_of("(1 + age | animal)")
    ids, sires, dams = HERD.columns
    for A in (
        mfx.Relationship.from_pedigree(ids, sires, dams),
        mfx.Relationship.from_inverse(np.linalg.inv(HERD.A), ids),
    ):
        other = fit_of("(1 + age | animal)", relmat={"animal": A})
        assert other.deviance == pytest.approx(dense.deviance, abs=1e-8)
        modes = other.ranef("animal").loc[ids]
        np.testing.assert_allclose(modes, dense.ranef("animal").loc[ids], atol=1e-6)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:singular fit")
def test_two_matrices_with_several_effects_each():
    """Of an animal and of its dam: V has both."""
    relmat = {"animal": HERD.A, "dam": HERD.A}
    fit = fit_of("(1 + age | animal) + (age || dam)", relmat=relmat, further="")
    data, names = HERD.data, list(HERD.A.index)
    Za = columns_of_effects(data, EFFECTS["(1 + age | animal)"], names)
    of_dam = data.assign(animal=data["dam"])
    Zd = columns_of_effects(of_dam, EFFECTS["(age || animal)"], names)
    C = np.kron(fit.cov_re["animal"], HERD.A)
    V = Za @ C @ Za.T + Zd @ np.kron(fit.cov_re["dam"], HERD.A) @ Zd.T
    V += fit.scale * np.eye(len(data))
    assert fit.deviance == pytest.approx(definition(data, Za, C, V, reml=True).criterion, abs=1e-7)


# ---------------------------------------------------------------- identities


@lru_cache
def plain_and_identity(dispersion=None):
    names = sorted(set(HERD.data["animal"]))
    options = {"relmat": {"animal": pd.DataFrame(np.eye(len(names)), names, names)}}
    formula = "y ~ x * trait + (1 + age | animal) + (1 | herd)"
    return (
        mfx.lmer(formula, HERD.data, engine="profiled", dispersion=dispersion),
        mfx.lmer(formula, HERD.data, engine="profiled", dispersion=dispersion, **options),
    )


TABLES = {
    "tidy": lambda fit: fit.tidy(),
    "kenward-roger": lambda fit: fit.tidy(df_method="kenward-roger"),
    "anova": lambda fit: fit.anova(),
    "varcorr": lambda fit: fit.varcorr,
    "ranef": lambda fit: fit.ranef("animal", cond_sd=True),
    "coef": lambda fit: fit.coef("animal"),
    "icc": lambda fit: fit.icc,
    "r2": lambda fit: fit.r2,
    "intervals": lambda fit: fit.conf_int(method="profile", parm="Intercept"),
    "predictions": lambda fit: fit.predict(HERD.data.iloc[::9], interval="prediction"),
    "new levels": lambda fit: fit.predict(
        HERD.data.iloc[:5], random=["herd"], interval="confidence"
    ),
    "influence": lambda fit: fit.influence(),
    "influence of a herd": lambda fit: fit.influence("herd"),
    "draws": lambda fit: fit.simulate(3, rng=4),
    "emmeans": lambda fit: fit.emmeans("trait").table,
    "residuals": lambda fit: fit.residuals(kind="pearson"),
}


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("name", "dispersion"),
    [(name, None) for name in TABLES]
    + [(name, "~ trait") for name in TABLES if name != "kenward-roger"],
)
def test_identity_matrix_is_the_term_without_a_matrix(name, dispersion):
    plain, identity = (pd.DataFrame(TABLES[name](f)) for f in plain_and_identity(dispersion))
    # Each search ends within about 1e-6 of the optimum.
    pd.testing.assert_frame_equal(identity, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.full
def test_a_product_of_factors_is_their_independent_effects():
    """``A = B B'``: the columns ``Z B`` with independent effects, of one level each."""
    rng = np.random.default_rng(6)
    names = sorted(set(HERD.data["animal"]))
    B = np.eye(len(names)) + 0.3 * rng.normal(size=(len(names),) * 2)
    fit = fit_of("(1 + age | animal)", relmat={"animal": pd.DataFrame(B @ B.T, names, names)})
    data = HERD.data
    ZB = indicators(data["animal"], names) @ B
    G = fit.cov_re["animal"].to_numpy()
    long = np.column_stack([ZB, data["age"].to_numpy()[:, None] * ZB])
    V = long @ np.kron(G, np.eye(len(names))) @ long.T + fit.scale * np.eye(len(data))
    herds = indicators(data["herd"], sorted(set(data["herd"])))
    V += fit.cov_re["herd"].to_numpy()[0, 0] * herds @ herds.T
    expected = definition(data, long, np.kron(G, np.eye(len(names))), V, reml=True)
    assert fit.deviance == pytest.approx(expected.criterion, abs=1e-7)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("effects", ["(1 + age | {})", "(age || {})"])
def test_membership_in_one_level_is_that_level(effects):
    member = fit_of(effects.format("mm(animal, animal)"), relmat={})
    plain = fit_of(effects.format("animal"), relmat={})
    assert member.deviance == pytest.approx(plain.deviance, abs=1e-7)
    for table in (lambda f, g: f.ranef(g, cond_sd=True), lambda f, g: f.tidy().set_index("term")):
        expected, found = table(plain, "animal"), table(member, "mm(animal, animal)")
        np.testing.assert_allclose(found.loc[expected.index], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.full
def test_slopes_of_several_levels_are_those_of_the_definition():
    fit, data = fit_of("(1 + age | mm(animal, dam))", relmat={}), HERD.data
    names = list(fit.ranef("mm(animal, dam)").index)
    S = 0.5 * (indicators(data["animal"], names) + indicators(data["dam"], names))
    Z = np.column_stack([S, data["age"].to_numpy()[:, None] * S])
    C = np.kron(fit.cov_re["mm(animal, dam)"], np.eye(len(names)))
    herds = indicators(data["herd"], sorted(set(data["herd"])))
    V = Z @ C @ Z.T + fit.scale * np.eye(len(data))
    V += fit.cov_re["herd"].to_numpy()[0, 0] * herds @ herds.T
    expected = definition(data, Z, C, V, reml=True)
    assert fit.deviance == pytest.approx(expected.criterion, abs=1e-7)
    found = fit.ranef("mm(animal, dam)", cond_sd=True)
    np.testing.assert_allclose(found.iloc[:, :2].T.to_numpy().ravel(), expected.modes, atol=1e-7)
    np.testing.assert_allclose(found.iloc[:, 2:].T.to_numpy().ravel(), expected.cond_sd, rtol=1e-6)


# ---------------------------------------------------------------- residual standard deviations


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("effects", ["(1 | animal)", "(1 + age | animal)"])
@pytest.mark.parametrize(("reml", "weights"), [(True, None), (False, "w")])
def test_residual_sds_by_trait_are_those_of_the_dense_definition(effects, reml, weights):
    """At the estimates V gives the criterion, and no log ratio of sds beside it a lower one."""
    data, names = HERD.data, list(HERD.A.index)
    formula = f"y ~ x + {effects} + (1 | herd)"
    options = {"dispersion": "~ trait", "weights": weights, "relmat": {"animal": HERD.A}}
    fit = mfx.lmer(formula, data, reml=reml, **options)
    k = len(fit.cov_re["animal"])
    Z = columns_of_effects(data, lambda d: EFFECTS["(1 + age | animal)"](d)[:, :k], names)
    C, herds = (
        np.kron(fit.cov_re["animal"], HERD.A),
        indicators(data["herd"], sorted(set(data["herd"]))),
    )
    between = Z @ C @ Z.T + fit.cov_re["herd"].to_numpy()[0, 0] * herds @ herds.T
    milk = data["trait"] == "milk"

    def at(shift):
        sds = fit.residual_sd * np.exp(np.where(milk, shift, 0.0))
        return definition(data, Z, C, between + np.diag(sds**2), reml=reml)

    assert fit.deviance == pytest.approx(at(0.0).criterion, abs=1e-7)
    np.testing.assert_allclose(fit.params, at(0.0).beta, rtol=1e-6)
    found = fit.ranef("animal", cond_sd=True).loc[names]
    np.testing.assert_allclose(found.iloc[:, k:].T.to_numpy().ravel(), at(0.0).cond_sd, rtol=1e-6)
    assert min(at(0.01).criterion, at(-0.01).criterion) > fit.deviance
    assert fit.certificate.ok
