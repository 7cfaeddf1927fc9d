"""Generalised models with relationship matrices and multiple memberships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SingularFitWarning
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows

FOLDER = Path(__file__).parents[2] / "reference" / "relationships"
# Laplace's approximation written out in R and maximised there: laplace.R of that folder.
REFERENCE = json.loads((FOLDER / "laplace.json").read_text(encoding="utf-8"))
MEMBERS = "(1 | mm(t1, t2, weights=[w1, w2]))"
MODELS = {
    "binary": ("y ~ x + (1 | animal)", "binomial"),
    "binary_herd": ("y ~ x + (1 | animal) + (1 | herd)", "binomial"),
    "count": ("count ~ x + (1 | animal)", "poisson"),
    "members": (f"passed ~ x + {MEMBERS}", "binomial"),
    "members_herd": (f"passed ~ x + {MEMBERS} + (1 | herd)", "binomial"),
}


def records():
    return pd.read_csv(FOLDER / "data" / "binary.csv")


def pedigree():
    columns = pd.read_csv(FOLDER / "data" / "binary_pedigree.csv", dtype=object)
    columns = columns.where(columns.notna(), None)
    return mfx.Relationship.from_pedigree(columns["id"], columns["sire"], columns["dam"])


def fitted(name, relationship=None, **options):
    formula, family = MODELS[name]
    if "animal" in formula:
        options["relmat"] = {"animal": pedigree() if relationship is None else relationship}
    return mfx.glmer(formula, records(), family=family, **options)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(MODELS, ["binary_herd", "members_herd"]))
def test_fit_is_that_of_r(name):
    fit, expected = fitted(name), REFERENCE[name]
    assert fit.llf == pytest.approx(expected["llf"], abs=1e-7)
    np.testing.assert_allclose(fit.params, expected["params"], atol=2e-6)
    np.testing.assert_allclose(fit.varcorr["sdcor"], np.ravel(expected["sd"]), rtol=1e-5)
    np.testing.assert_allclose(fit.bse, expected["bse"], rtol=1e-4)


@pytest.mark.full
def test_a_matrix_gives_the_fit_of_its_pedigree():
    of_matrix = fitted("binary", pedigree().covariance())
    of_pedigree = fitted("binary")
    assert of_matrix.llf == pytest.approx(of_pedigree.llf, abs=1e-9)
    modes, expected = (fit.ranef("animal", cond_sd=True) for fit in (of_matrix, of_pedigree))
    np.testing.assert_allclose(modes, expected.loc[modes.index], atol=1e-5)


@pytest.mark.full
def test_an_identity_matrix_gives_the_fit_of_independent_levels():
    levels = sorted(records()["animal"].unique())
    identity = pd.DataFrame(np.eye(len(levels)), levels, levels)
    formula = "y ~ x + (1 + x | animal) + (1 | herd)"
    related = mfx.glmer(formula, records(), relmat={"animal": identity})
    plain = mfx.glmer(formula, records())
    assert related.llf == pytest.approx(plain.llf, abs=1e-7)
    np.testing.assert_allclose(related.cov_params(), plain.cov_params(), rtol=1e-3, atol=1e-6)
    for group in ("animal", "herd"):
        modes, expected = (fit.ranef(group, cond_sd=True) for fit in (related, plain))
        np.testing.assert_allclose(modes, expected, atol=2e-3)
    new = records().head(4)
    found, expected = (fit.predict(new, interval="confidence") for fit in (related, plain))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.full
def test_memberships_of_one_level_each_give_the_fit_of_this_level():
    data = records().assign(none=0.0, one=1.0)
    shared = mfx.glmer("passed ~ x + (1 | mm(t1, t2, weights=[one, none]))", data)
    plain = mfx.glmer("passed ~ x + (1 | t1)", data)
    assert shared.llf == pytest.approx(plain.llf, abs=1e-7)
    modes = shared.ranef(shared.model.formula.groups[0], cond_sd=True)
    expected = plain.ranef("t1", cond_sd=True)
    np.testing.assert_allclose(modes.loc[expected.index], expected, atol=1e-4)


@pytest.mark.full
def test_members_have_modes_and_predictions():
    fit = fitted("members")
    modes = fit.ranef(fit.model.formula.groups[0], cond_sd=True)
    assert len(modes) == 25
    data = records()
    weights = {
        t: data["w1"] * (data["t1"] == t) + data["w2"] * (data["t2"] == t) for t in modes.index
    }
    eta = fit.params["Intercept"] + fit.params["x"] * data["x"]
    eta = eta + sum(w * modes["Intercept"][t] for t, w in weights.items())
    np.testing.assert_allclose(fit.fittedvalues, 1.0 / (1.0 + np.exp(-eta)), atol=1e-9)


@pytest.mark.full
def test_gradient_is_that_of_the_deviance():
    formula = f"passed ~ x + (1 + x || animal) + {MEMBERS} + (1 | herd)"
    data = records()
    with pytest.warns(SingularFitWarning):
        fit = mfx.glmer(formula, data, relmat={"animal": pedigree()})
    likelihood = GeneralizedLikelihood(GeneralizedRows.of(fit.model.design))
    F = [np.array([[0.7, 0.0], [0.2, 0.4]]), np.array([[0.9]]), np.array([[0.5]])]

    def at(change, t, a, b):
        moved = [f.copy() for f in F]
        moved[t][a, b] += change
        return likelihood.at(Point(tuple(moved), np.array([0.1, 0.3]), np.zeros(0)))

    gradient = likelihood.rows.term_blocks(at(0.0, 0, 0, 0).gradient.by_lambda)
    step = 1e-5
    for t, a, b in [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 0), (2, 0, 0)]:
        slope = (at(step, t, a, b).deviance - at(-step, t, a, b).deviance) / (2.0 * step)
        assert gradient[t][a, b] == pytest.approx(slope, abs=1e-5)


@pytest.mark.full
def test_animals_without_records_have_effects():
    data = records()
    few = data[data["animal"].isin(sorted(data["animal"].unique())[30:])]
    fit = mfx.glmer("y ~ x + (1 | animal)", few, relmat={"animal": pedigree()})
    modes = fit.ranef("animal", cond_sd=True)
    assert len(modes) == 60
    assert (modes["Intercept_sd"] > 0.0).all()
    A, b = pedigree().covariance(), modes["Intercept"]
    recorded = sorted(few["animal"].unique())
    others = [animal for animal in A.index if animal not in recorded]
    expected = A.loc[others, recorded] @ np.linalg.solve(A.loc[recorded, recorded], b[recorded])
    np.testing.assert_allclose(b[others], expected, atol=1e-8)


@pytest.mark.parametrize("name", ["binary_herd", pytest.param("members", marks=pytest.mark.full)])
def test_kept_fit_is_the_same(tmp_path, name):
    fit = fitted(name)
    fit.save(tmp_path / "fit.mfx")
    kept = mfx.read(tmp_path / "fit.mfx")
    group = fit.model.formula.groups[0]
    pd.testing.assert_frame_equal(
        kept.ranef(group, cond_sd=True), fit.ranef(group, cond_sd=True), atol=1e-9
    )


@pytest.mark.parametrize("name", ["binary", "members"])
def test_quadrature_is_refused(name):
    with pytest.raises(ArgumentError, match=r"nagq=5.* takes no .* Leave nagq at 1"):
        fitted(name, nagq=5)


@pytest.mark.full
def test_approximation_is_refused():
    with pytest.raises(ArgumentError, match=r"approximation.* takes no relationship matrix"):
        fitted("binary").approximation()


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["binary", "count"])
def test_heritability_is_the_intraclass_correlation(name):
    fit = fitted(name)
    found = fit.heritability().loc["animal"]
    assert found["estimate"] == pytest.approx(fit.icc["animal"], abs=1e-12)


@pytest.mark.full
def test_standard_error_of_heritability_is_that_of_the_standard_deviation():
    # d h2 / d log(sd) = 2 h2 (1 - h2); the profile's limits are of log(sd), asymmetric
    fit = fitted("binary")
    h2, std_error = fit.heritability().loc["animal"]
    low, high = fit.conf_int(method="profile", conf_level=0.6826895).iloc[-1]
    log_sd_error = 0.5 * np.log(high / low)
    assert std_error / (2.0 * h2 * (1.0 - h2)) == pytest.approx(log_sd_error, rel=0.2)
