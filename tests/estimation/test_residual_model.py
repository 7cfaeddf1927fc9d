"""The seam of residual models: a model of another package gives the numbers of the built-in one.

The model below has a residual standard deviation for each value of a column. It is written in one
class, in coordinates of its own (log ratios to the first value), and is registered in one line;
nothing in the package knows it. ``dispersion="~ column"`` is the same model, in orthonormal
coordinates, estimated to nlme's numbers in ``dispersion/test_fixed.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.residual import NamedResidual
from mixedfx.errors import ArgumentError, EngineRefusal, FormulaError, MissingColumnError
from mixedfx.residuals.registry import register_residual
from mixedfx.residuals.variance_function import VarianceFunction

both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


@dataclass(frozen=True)
class ByColumn(VarianceFunction):
    """One standard deviation for each value of a column."""

    spec: NamedResidual
    column: str
    values: pd.Index
    codes: np.ndarray

    @staticmethod
    def of(text: str, columns: Mapping[str, pd.Series]) -> ByColumn:
        values = pd.Categorical(columns[text])
        names = tuple(map(str, values.categories[1:]))
        spec = NamedResidual(f"bycolumn({text})", names)
        return ByColumn(spec, text, values.categories, values.codes.astype(np.intp))

    def stratum_log_sds(self, params):
        return np.append(0.0, params)

    def log_sd_jacobian(self, params):
        return np.eye(len(self.values))[:, 1:]

    def new_codes(self, data):
        return self.values.get_indexer(data[self.column])


register_residual("bycolumn", ByColumn.of)


# ------------------------------------------------------------------ the same model twice


def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    n = 240
    d = pd.DataFrame({"g": rng.integers(15, size=n), "h": rng.integers(12, size=n)})
    d["x"], d["kind"] = rng.normal(size=n), rng.choice(["p", "q"], size=n)
    d["w"] = rng.uniform(0.5, 2.0, size=n)
    sd = np.where(d["kind"] == "p", 0.5, 1.4) / np.sqrt(d["w"])
    effects = rng.normal(size=15)[d["g"]] + 0.6 * rng.normal(size=12)[d["h"]]
    effects = effects + 0.5 * rng.normal(size=15)[d["g"]] * d["x"]
    return d.assign(y=1.0 + 0.5 * d["x"] + effects + sd * rng.normal(size=n))


ROMCOM = mfx.datasets.load("romcom")
MODELS = {
    "romcom": ("rating ~ 1 + (1 | friend)", ROMCOM, {}),
    "romcom, weights": (
        "rating ~ 1 + (1 | friend)",
        ROMCOM.assign(w=np.resize([1.0, 2.0, 0.5], len(ROMCOM))),
        {"weights": "w"},
    ),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", crossed(), {}),
    "crossed, weights": ("y ~ x + (x | g) + (1 | h)", crossed(), {"weights": "w"}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def both(name: str, reml: bool) -> tuple[mfx.Results, mfx.Results]:
    """The fit of the registered model, and of the built-in one."""
    formula, data, options = MODELS[name]
    # Coordinates differ, so both searches go on until rounding ends them.
    tight = mfx.Control(tolerance=1e-18)
    return (
        mfx.lmer(formula, data, reml=reml, residual="bycolumn(kind)", control=tight, **options),
        mfx.lmer(formula, data, reml=reml, dispersion="~ kind", control=tight, **options),
    )


@pytest.mark.full
@every_model
@both_criteria
def test_the_numbers_are_those_of_the_built_in_model(name, reml):
    own, built_in = both(name, reml)
    assert own.deviance == pytest.approx(built_in.deviance, rel=1e-8)
    np.testing.assert_allclose(own.params, built_in.params, rtol=1e-8)
    np.testing.assert_allclose(own.bse, built_in.bse, rtol=1e-8)
    np.testing.assert_allclose(own.theta, built_in.theta, rtol=1e-8)
    np.testing.assert_allclose(own.residual_sd, built_in.residual_sd, rtol=1e-8)
    assert own.sigma == pytest.approx(built_in.sigma, rel=1e-8)
    assert (own.aic, own.bic) == pytest.approx((built_in.aic, built_in.bic), rel=1e-8)


@pytest.mark.full
@every_model
@both_criteria
def test_satterthwaites_df_are_those_of_the_built_in_model(name, reml):
    own, built_in = both(name, reml)
    np.testing.assert_allclose(own.tidy()["df"], built_in.tidy()["df"], rtol=1e-6)


@pytest.mark.kept("REML-romcom", "ML-romcom, weights", "REML-crossed")
@every_model
@both_criteria
def test_the_estimates_are_log_ratios_with_the_built_in_standard_errors(name, reml):
    own, built_in = both(name, reml)
    ratios = built_in.dispersion.iloc[1:]
    assert [f"kind[T.{value}]" for value in own.dispersion.index] == list(ratios.index)
    np.testing.assert_allclose(own.dispersion["estimate"], ratios["estimate"], rtol=1e-7)
    np.testing.assert_allclose(own.dispersion["std_error"], ratios["std_error"], rtol=1e-5)


# ------------------------------------------------------------------ what is asked of a fit


def test_a_summary_names_the_model():
    text = str(both("romcom", True)[0].summary())
    assert "Residual:" in text
    assert "bycolumn(kind)" in text
    assert "erratic" in text


def test_the_random_effects_are_those_of_the_built_in_model():
    own, built_in = both("crossed", True)
    pd.testing.assert_frame_equal(own.ranef("g"), built_in.ranef("g"), rtol=1e-7)


def test_simulated_responses_are_those_of_the_built_in_model():
    own, built_in = both("crossed", True)
    pd.testing.assert_frame_equal(own.simulate(2, rng=1), built_in.simulate(2, rng=1), rtol=1e-7)


@pytest.mark.full
def test_a_bootstrap_refits_the_model():
    own, built_in = both("romcom", True)
    draws, expected = own.bootstrap(5, rng=3).draws, built_in.bootstrap(5, rng=3).draws
    assert list(draws)[-3:-1] == ["residual(usual)", "residual(erratic)"]
    np.testing.assert_allclose(draws["sigma"], expected["sigma"], rtol=1e-4)
    np.testing.assert_allclose(
        draws["residual(erratic)"], expected["dispersion(kind[T.erratic])"], rtol=1e-4
    )


def test_a_prediction_interval_has_the_rows_own_variance():
    own, built_in = both("romcom", True)
    new = pd.DataFrame({"friend": ["friend01", "new"], "kind": ["steady", "erratic"]})
    ask = {"new_levels": "population", "interval": "prediction"}
    found, expected = own.predict(new, **ask), built_in.predict(new, **ask)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-7)
    pd.testing.assert_frame_equal(
        own.predict(interval="prediction"), built_in.predict(interval="prediction"), rtol=1e-7
    )


def test_rows_without_a_value_of_its_columns_are_left_out():
    data = crossed()
    data.loc[3, "kind"] = None
    fit = mfx.lmer("y ~ x + (1 | g)", data, residual="bycolumn(kind)")
    assert fit.nobs == len(data) - 1


def test_a_likelihood_ratio_tests_the_ratios():
    formula, data, _ = MODELS["romcom"]
    table = mfx.compare(mfx.lmer(formula, data), both("romcom", True)[0])
    assert list(table["npar"]) == [3, 5]
    assert table["df"].iloc[1] == 2


def test_priors_of_the_ratios_go_by_their_names():
    formula, data, _ = MODELS["romcom"]
    flat = mfx.lmer(formula, data, residual="bycolumn(kind)", priors={})
    np.testing.assert_allclose(flat.params, both("romcom", True)[0].params, rtol=1e-4)
    near = {"residual(erratic)": mfx.priors.Normal(0, 1e-3)}
    fit = mfx.lmer(formula, data, residual="bycolumn(kind)", priors=near)
    assert abs(fit.dispersion.loc["erratic", "estimate"]) < 0.05


def test_its_formula_is_told_in_one_line():
    table = mfx.compare(*both("romcom", False), names=None)
    assert "residual bycolumn(kind)" in table.index[0]


# ------------------------------------------------------------------ what is refused


@pytest.mark.full
def test_profile_limits_are_those_of_the_built_in_model():
    names = ["sd(Intercept | friend)", "Intercept"]
    own, built_in = (fit.conf_int(method="profile", parm=names) for fit in both("romcom", True))
    np.testing.assert_allclose(own, built_in, rtol=1e-6)


def test_another_engine_names_the_argument():
    with pytest.raises(EngineRefusal, match="with residual= use"):
        mfx.lmer("rating ~ 1 + (1 | friend)", ROMCOM, residual="bycolumn(kind)", engine="em")


def test_an_unknown_name_lists_the_registered_ones():
    with pytest.raises(ArgumentError, match=r"'bycolum'.*there are 'us'.*Did you mean 'bycolumn'"):
        mfx.lmer("rating ~ 1 + (1 | friend)", ROMCOM, residual="bycolum(kind)")


def test_what_is_no_call_is_refused():
    with pytest.raises(FormulaError, match=r"name\(columns\)"):
        mfx.lmer("rating ~ 1 + (1 | friend)", ROMCOM, residual="kind")


def test_a_missing_column_is_named():
    with pytest.raises(MissingColumnError, match="knd"):
        mfx.lmer("rating ~ 1 + (1 | friend)", ROMCOM, residual="bycolumn(knd)")


@pytest.mark.parametrize("other", [{"dispersion": "~ kind"}, {"residual_sd": "w"}])
def test_two_arguments_for_the_residual_variances_are_refused(other):
    with pytest.raises(ArgumentError, match="both say what the residual variances are"):
        mfx.lmer("rating ~ 1 + (1 | friend)", ROMCOM, residual="bycolumn(kind)", **other)
