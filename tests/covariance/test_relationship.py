"""Relationship matrices: pedigrees, the dense definition, levels without records, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RelationshipError


def pedigree(rng, size, founders=8):
    sires, dams = [None] * size, [None] * size
    for i in range(founders, size):
        sires[i], dams[i] = (f"a{j}" for j in rng.choice(i, 2, replace=rng.random() < 0.1))
    return [f"a{i}" for i in range(size)], sires, dams


def tabular(ids, sires, dams):
    """Numerator relationships by the tabular method, animal by animal."""
    A, place = np.zeros((len(ids),) * 2), {name: i for i, name in enumerate(ids)}
    for i, (s, d) in enumerate(zip(sires, dams, strict=True)):
        parents = [place[p] for p in (s, d) if p is not None]
        A[i, :i] = A[:i, i] = sum((0.5 * A[p, :i] for p in parents), np.zeros(i))
        A[i, i] = 1.0 + (0.5 * A[place[s], place[d]] if s is not None and d is not None else 0.0)
    return A


def records(seed, n=150, size=40):
    """Records of half the animals, and a crossed factor."""
    rng = np.random.default_rng(seed)
    ids, sires, dams = pedigree(rng, size)
    A = tabular(ids, sires, dams)
    b = np.linalg.cholesky(A) @ rng.normal(size=size)
    animal = rng.choice(np.arange(0, size, 2), n)
    herd = rng.integers(0, 6, n)
    data = pd.DataFrame(
        {
            "animal": [ids[i] for i in animal],
            "herd": [f"h{h}" for h in herd],
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = 3.0 + 0.5 * data["x"] + b[animal] + 0.6 * rng.normal(size=6)[herd]
    data["y"] += rng.normal(size=n) / np.sqrt(data["w"])
    return data, pd.DataFrame(A, ids, ids), (ids, sires, dams)


def dense(fit, data, A, weights=None):
    """V from the definition; REML criterion, beta, and the moments of all animals' effects."""
    names = list(A.index)
    Z = (data["animal"].to_numpy()[:, None] == np.array(names)).astype(float)
    vc = fit.varcorr.set_index("group")["vcov"]
    R = np.eye(len(data)) if weights is None else np.diag(1.0 / data[weights])
    V = vc["animal"] * Z @ A.to_numpy() @ Z.T + vc["Residual"] * R
    if "herd" in vc:
        herds = pd.get_dummies(data["herd"]).to_numpy(dtype=float)
        V += vc["herd"] * herds @ herds.T
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    beta = np.linalg.solve(information, X.T @ Vi @ y)
    r = y - X @ beta
    criterion = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + r @ Vi @ r
    criterion += (len(y) - 2) * np.log(2.0 * np.pi)
    C = vc["animal"] * A.to_numpy()
    return criterion, beta, C @ Z.T @ Vi @ r, np.diag(C - C @ Z.T @ Vi @ Z @ C)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("further", ["", " + (1 | herd)"])
def test_fit_is_that_of_the_dense_definition(seed, weights, further):
    data, A, _ = records(seed)
    formula = "y ~ x + (1 | animal)" + further
    fit = mfx.lmer(formula, data, relmat={"animal": A}, weights=weights)
    criterion, beta, modes, variances = dense(fit, data, A, weights)
    assert fit.deviance == pytest.approx(criterion, abs=1e-7)
    np.testing.assert_allclose(fit.params, beta, rtol=1e-8)
    found = fit.ranef("animal", cond_sd=True).loc[A.index]
    np.testing.assert_allclose(found["Intercept"], modes, atol=1e-8)
    np.testing.assert_allclose(found["Intercept_sd"], np.sqrt(variances), rtol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_pedigree_is_the_tabular_method_in_any_order(seed):
    rng = np.random.default_rng(seed)
    ids, sires, dams = pedigree(rng, 60)
    A = tabular(ids, sires, dams)
    order = rng.permutation(60)
    shuffled = [[column[i] for i in order] for column in (ids, sires, dams)]
    found = mfx.Relationship.from_pedigree(*shuffled)
    np.testing.assert_allclose(found.covariance(ids), A, atol=1e-12)
    np.testing.assert_allclose(found.inbreeding()[ids], np.diag(A) - 1.0, atol=1e-12)
    product = found.inverse() @ found.covariance().to_numpy()
    np.testing.assert_allclose(product, np.eye(60), atol=1e-10)


def test_unknown_parents_have_several_spellings_and_parents_without_a_row_are_founders():
    found = mfx.Relationship.from_pedigree([1, 2, 3, 4], [0, None, 9, ""], [np.nan, 0, 1, 2])
    assert found.covariance(["9", 3]).to_numpy().tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert found.covariance([1, 3]).iloc[0, 1] == 0.5


def test_identity_matrix_is_an_ordinary_random_intercept():
    sleep = mfx.datasets.load("sleepstudy")
    ids = sleep["Subject"].unique()
    plain = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, engine="profiled")
    eye = pd.DataFrame(np.eye(len(ids)), ids.astype(str), ids.astype(str))  # labels as text
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, relmat={"Subject": eye})
    assert fit.deviance == pytest.approx(plain.deviance, abs=1e-9)
    np.testing.assert_allclose(fit.ranef("Subject"), plain.ranef("Subject"), rtol=1e-6)
    assert fit.heritability().loc["Subject", "estimate"] == pytest.approx(plain.icc["Subject"])


def test_heritability_has_the_error_of_the_likelihoods_curvature():
    data, A, _ = records(3)
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A})
    estimate, se = fit.heritability().loc["animal"]

    def deviance(h2):  # sigma profiled out, which h2 does not depend on
        theta = np.sqrt(h2 / (1.0 - h2))
        return fit.model.likelihood.at([theta]).deviance

    h = 1e-3
    curvature = (deviance(estimate + h) - 2 * fit.deviance + deviance(estimate - h)) / h**2
    assert estimate == pytest.approx(fit.icc["animal"])
    assert se == pytest.approx(np.sqrt(2.0 / curvature), rel=1e-3)


def test_new_rows_of_animals_without_records_have_the_moments_of_the_definition():
    data, A, _ = records(4)
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A})
    _, _, modes, _ = dense(fit, data, A)
    unrecorded = [name for name in A.index if name not in set(data["animal"])]
    new = pd.DataFrame({"animal": unrecorded, "x": 0.0})
    found = fit.predict(new, se=True)
    expected = fit.params["Intercept"] + pd.Series(modes, A.index)[unrecorded]
    np.testing.assert_allclose(found["predicted"], expected, atol=1e-9)
    joint = fit.ranef("animal", cond_sd="joint").loc[unrecorded, "Intercept_sd"]
    assert (joint >= fit.ranef("animal", cond_sd=True).loc[unrecorded, "Intercept_sd"]).all()


@pytest.mark.full
def test_simulated_effects_have_the_covariance_of_the_matrix():
    data, A, _ = records(5)
    once = data.drop_duplicates("animal")
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A})
    drawn = fit.simulate(4000, rng=1).loc[once.index].to_numpy()
    vc = fit.varcorr.set_index("group")["vcov"]
    own = A.loc[once["animal"], once["animal"]].to_numpy()
    expected = vc["animal"] * own + vc["Residual"] * np.eye(len(once))
    np.testing.assert_allclose(np.cov(drawn), expected, atol=0.25 * expected.max())
    assert np.corrcoef(np.cov(drawn).ravel(), expected.ravel())[0, 1] > 0.98


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SamplingWarning")
@pytest.mark.parametrize("further", ["", " + (1 | herd)"])
def test_posterior_draws_of_effects_are_around_their_modes(further):
    """With one factor many points are drawn at once, with several one by one."""
    data, A, _ = records(7, n=300)
    fit = mfx.lmer("y ~ x + (1 | animal)" + further, data, relmat={"animal": A})
    drawn = fit.sample(300, chains=2, rng=3).posterior["b_animal"].isel(animal_effect=0)
    modes = fit.ranef("animal")["Intercept"].loc[list(drawn["animal"].to_numpy())]
    mean, sd = (f(("chain", "draw")).to_numpy() for f in (drawn.mean, drawn.std))
    assert np.abs((mean - modes) / sd).max() < 0.5
    assert np.corrcoef(mean, modes)[0, 1] > 0.99


def test_leaving_rows_out_is_a_fit_of_the_others():
    data, A, _ = records(6, n=80, size=24)
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A})
    level = data["animal"].iloc[0]
    without = mfx.lmer("y ~ x + (1 | animal)", data[data["animal"] != level], relmat={"animal": A})
    change = fit.influence("animal", method="refit").loc[level, "x"]
    assert without.params["x"] - fit.params["x"] == pytest.approx(change, abs=1e-6)


A2 = pd.DataFrame([[1.0, 0.5], [0.5, 1.0]], ["a", "b"], ["a", "b"])


@pytest.mark.parametrize(
    ("A", "labels", "message"),
    [
        (A2.iloc[:, :1], None, "not square: it has 2 rows and 1 columns"),
        (A2.rename(columns={"b": "c"}), None, "a row 'b' and no such column"),
        (A2 * np.array([[1, 2], [1, 1]]), None, "not symmetric: it has 1 for 'a' and 'b', and 0.5"),
        (A2 * np.array([[1, 3], [3, 1]]), None, "smallest eigenvalue is -0.5"),
        (A2 * np.nan, None, "missing or infinite"),
        (np.eye(2), ["a", "a"], "several rows with the label 'a'"),
        (np.eye(2), [1, "1"], "several rows with the label '1'"),
        (np.eye(2), None, "need labels"),
        (np.eye(2), ["a"], "2 rows and 1 labels"),
        (sparse.csr_array([[1.0, 0.2], [0.1, 1.0]]), ["a", "b"], "0.2 for 'a' and 'b', and 0.1"),
    ],
)
def test_what_is_no_relationship_matrix_is_named(A, labels, message):
    with pytest.raises(RelationshipError, match=message):
        mfx.Relationship.from_covariance(A, labels)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((["a", "b"], ["b", "a"], [None, None]), "is an ancestor of itself"),
        ((["a", "a"], [None, None], [None, None]), "'a' has several rows"),
        ((["a"], [None, None], [None]), "different lengths: 1, 2, 1"),
        (([None], [None], [None]), "no id in row 0"),
    ],
)
def test_what_is_no_pedigree_is_named(columns, message):
    with pytest.raises(RelationshipError, match=message):
        mfx.Relationship.from_pedigree(*columns)


def test_inverse_that_is_not_positive_definite_is_refused():
    with pytest.raises(RelationshipError, match="not positive definite"):
        mfx.Relationship.from_inverse(np.array([[1.0, 2.0], [2.0, 1.0]]), ["a", "b"])


def test_levels_without_a_row_are_named():
    data, A, _ = records(7)
    level = data["animal"].iloc[0]
    with pytest.raises(RelationshipError, match=f"no row for 1 of its .* levels: '{level}'"):
        mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A.drop(level).drop(columns=level)})


@pytest.mark.parametrize(
    ("formula", "relmat", "error", "message"),
    [
        ("y ~ x + (1 | animal)", {"sheep": A2}, ArgumentError, "relmat='sheep'|sheep"),
        ("y ~ x + (1 | animal)", A2.to_numpy(), ArgumentError, "mapping"),
        ("y ~ x + (1 | animal)", {"animal": 3}, RelationshipError, "a DataFrame, a matrix"),
        ("y ~ x + (1 | animal)", {"animal": np.eye(3)}, RelationshipError, "without labels"),
    ],
)
def test_relmat_that_does_not_fit_the_model_is_refused(formula, relmat, error, message):
    data, _, _ = records(8)
    with pytest.raises(error, match=message):
        mfx.lmer(formula, data, relmat=relmat)


def test_matrix_with_labels_is_the_table_of_them():
    data, A, _ = records(8)
    given = (sparse.csr_array(A.to_numpy()), A.index)
    fits = [mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": a}) for a in (A, given)]
    assert fits[0].deviance == pytest.approx(fits[1].deviance, abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"dispersion": "~ 1 + (1 | herd)"}, {"residual": "cs(time | herd)"}],
    ids=["random dispersion", "correlated residuals"],
)
def test_residuals_that_do_not_go_with_a_relationship_matrix_are_refused(options):
    data, A, _ = records(9)
    data["time"] = data.groupby("herd").cumcount()
    with pytest.raises(ArgumentError, match="takes no relationship matrix"):
        mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A}, **options)


def test_levels_with_one_row_each_are_identified_by_their_relationships():
    data, A, _ = records(10, n=400)
    once = data.drop_duplicates("animal")
    fit = mfx.lmer("y ~ x + (1 | animal)", once, relmat={"animal": A})
    assert fit.deviance == pytest.approx(dense(fit, once, A)[0], abs=1e-6)


def test_kept_fit_has_the_relationships(tmp_path):
    data, _, columns = records(11)
    relationship = mfx.Relationship.from_pedigree(*columns)
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": relationship})
    fit.save(tmp_path / "fit.mfx")
    kept = mfx.read(tmp_path / "fit.mfx")
    pd.testing.assert_frame_equal(
        kept.ranef("animal", cond_sd=True), fit.ranef("animal", cond_sd=True)
    )
