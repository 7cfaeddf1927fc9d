"""The adapter to the package marginaleffects.

The package is no dependency: its two classes are stood in for here, as of version 0.6. With the
package itself ``avg_slopes``, ``avg_comparisons`` and ``avg_predictions`` gave the digits of
``fit.slopes(average=True)``, ``fit.comparisons`` and ``fit.predictions``.
"""

from __future__ import annotations

import builtins
import sys
import types

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

pl = pytest.importorskip("polars")


class ModelVault:
    def __init__(self, **values):
        self.__dict__.update(values)


class ModelAbstract:
    def __init__(self, model, vault):
        self.model, self.vault = model, vault


@pytest.fixture
def package(monkeypatch):
    classes = types.ModuleType("marginaleffects.classes")
    classes.ModelVault, classes.ModelAbstract = ModelVault, ModelAbstract
    whole = types.ModuleType("marginaleffects")
    whole.classes = classes
    monkeypatch.setitem(sys.modules, "marginaleffects", whole)
    monkeypatch.setitem(sys.modules, "marginaleffects.classes", classes)


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"x": rng.normal(size=90), "g": rng.integers(9, size=90)})
    table["a"] = pd.Categorical(rng.choice(["lo", "hi"], 90), ["lo", "hi"])
    table["k"] = rng.poisson(np.exp(0.5 * table["x"] + 0.2 * rng.normal(size=9)[table["g"]]))
    return mfx.glmer("k ~ x * a + (1 | g)", table, family="poisson")


@pytest.mark.usefixtures("package")
def test_predictions_at_any_coefficients_are_those_of_the_fit(fit):
    model = fit.to_marginaleffects()
    new = pl.DataFrame({"x": [0.0, 1.0], "a": pl.Series(["hi", "lo"], dtype=pl.Enum(["lo", "hi"]))})
    found = model.get_predict(model.vault.coef, model.get_exog(new))
    expected = fit.predict(pd.DataFrame({"x": [0.0, 1.0], "a": ["hi", "lo"]}), random="none")
    np.testing.assert_allclose(found["estimate"], expected)
    assert found.schema == {"rowid": pl.Int32, "estimate": pl.Float64}
    other = model.get_predict(np.zeros(4), model.get_exog(new))
    np.testing.assert_allclose(other["estimate"], 1.0)


@pytest.mark.usefixtures("package")
def test_coefficients_covariance_and_data_are_those_of_the_fit(fit):
    model = fit.to_marginaleffects()
    np.testing.assert_array_equal(model.vault.coef, fit.params)
    np.testing.assert_allclose(model.get_vcov(True), fit.cov_params())
    assert model.get_vcov(False) is None
    assert model.vault.variable_names == ["k", "x", "a"]
    assert model.vault.modeldata["a"].dtype == pl.Enum(["lo", "hi"])
    assert len(model.vault.modeldata) == fit.nobs


def test_without_the_package_the_error_says_how_to_install_it(fit, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **how):
        if name.startswith("marginaleffects"):
            raise ImportError(name)
        return original(name, *args, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="python -m pip install marginaleffects"):
        fit.to_marginaleffects()
