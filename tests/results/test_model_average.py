"""Averages of models.

Source of truth: fits of R's lme4 combined by the formulas of MuMIn's model.avg (par.avg: Burnham
and Anderson 2004, equation 4; with revised.var = FALSE Buckland and others 1997).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError


@cache
def data() -> pd.DataFrame:
    s = mfx.datasets.load("sleepstudy")
    return s.assign(z=np.tile([-1.0, 1, 2, 0, 1], 36), w=np.tile([1.0, 0, 0, 2, -1, 3], 30))


@cache
def fits(*, reml: bool = False) -> tuple[mfx.Results, ...]:
    parts = ("Days", "Days + z", "Days + z + w")
    return tuple(mfx.lmer(f"Reaction ~ {p} + (Days | Subject)", data(), reml=reml) for p in parts)


# Estimate and unconditional standard error of Intercept, Days, z, w, by (full, revised).
R = {
    (True, True): [
        (251.99102207114, 6.67082743928),
        (10.6399353177, 1.5110535786),
        (-2.47645845789, 2.23680583274),
        (0.147642888675, 0.695260484170),
    ],
    (False, True): [
        (251.99102207114, 6.67082743928),
        (10.6399353177, 1.5110535786),
        (-3.46851695089, 1.88855209041),
        (0.744949221659, 1.412098678460),
    ],
    (True, False): [
        (251.99102207114, 6.67079596778),
        (10.63993531771, 1.51105342792),
        (-2.47645845789, 2.23141815921),
        (0.147642888675, 0.422255220062),
    ],
    (False, False): [
        (251.99102207114, 6.67079596778),
        (10.63993531771, 1.51105342792),
        (-3.46851695089, 1.88855199772),
        (0.744949221659, 1.412098678460),
    ],
}


@pytest.mark.parametrize(("full", "revised"), R)
def test_coefficients_and_errors_are_those_of_mumin(full, revised):
    found = mfx.model_avg(fits(), revised_var=revised).tidy(full=full)
    expected = np.array(R[full, revised])
    assert list(found["term"]) == ["Intercept", "Days", "z", "w"]
    np.testing.assert_allclose(found["estimate"], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found["std_error"], expected[:, 1], rtol=5e-6)
    half = (found["conf_high"] - found["conf_low"]) / 2
    np.testing.assert_allclose(half, 1.959963984540054 * expected[:, 1], rtol=5e-6)


def test_weights_are_those_of_aicc():
    table = mfx.model_avg(fits(), names=["a", "b", "c"]).models.loc[["a", "b", "c"]]
    expected = [1764.42489362, 1763.24560391, 1765.15853221]
    np.testing.assert_allclose(table["aicc"], expected, rtol=1e-9)
    np.testing.assert_allclose(table["weight"], [0.286018061, 0.515790056, 0.198191883], rtol=1e-7)
    assert mfx.model_avg(fits()).models["delta"].iloc[0] == 0.0


def test_importance_is_the_weight_of_the_models_with_a_coefficient():
    importance = mfx.model_avg(fits()).importance
    assert importance["Days"] == pytest.approx(1.0)
    assert importance["z"] == pytest.approx(0.515790056 + 0.198191883, rel=1e-7)


@pytest.mark.parametrize("rank", ["aic", "bic"])
def test_other_criteria_are_those_of_the_fits(rank):
    table = mfx.model_avg(fits(), names=list("abc"), rank=rank).models.loc[list("abc")]
    np.testing.assert_allclose(table[rank], [getattr(fit, rank) for fit in fits()])


def test_equal_models_but_for_a_copy_of_a_covariate_average_to_themselves():
    # Two models with the same fit: the average is that fit, and no variance is added.
    both = data().assign(days=data()["Days"])
    names = ("Days", "days")
    pair = [mfx.lmer(f"Reaction ~ {x} + (1 | Subject)", both, reml=False) for x in names]
    average = mfx.model_avg(pair)
    np.testing.assert_allclose(average.models["weight"], 0.5)
    conditional = average.conditional.set_index("term")
    np.testing.assert_allclose(conditional["std_error"]["days"], pair[0].bse["Days"], rtol=1e-9)
    predicted = average.predict(both.head(4), se=True)
    expected = pair[0].predict(both.head(4), se=True)
    pd.testing.assert_frame_equal(predicted, expected)


def test_predictions_are_weighted_means():
    average = mfx.model_avg(fits())
    new = data().head(3)
    expected = sum(w * f.predict(new) for w, f in zip(average.weights, fits(), strict=True))
    np.testing.assert_allclose(average.predict(new), expected)
    errors = average.predict(new, se=True)["std_error"]
    least = min(f.predict(new, se=True)["std_error"].min() for f in fits())
    assert (errors > least).all()


def test_degrees_of_freedom_widen_the_intervals():
    normal, t = mfx.model_avg(fits()), mfx.model_avg(fits(), df_method="satterthwaite")
    assert (t.full["adjusted_se"] > normal.full["adjusted_se"]).all()
    np.testing.assert_allclose(t.full["std_error"], normal.full["std_error"])
    np.testing.assert_allclose(normal.full["adjusted_se"], normal.full["std_error"])


def test_reml_fits_of_different_fixed_parts_are_refused():
    with pytest.raises(ArgumentError, match="reml=False"):
        mfx.model_avg(fits(reml=True))


def test_reml_fits_of_one_fixed_part_are_averaged():
    reml = [mfx.lmer(f"Reaction ~ Days + {t}", data()) for t in ("(1|Subject)", "(Days|Subject)")]
    assert mfx.model_avg(reml).models["weight"].iloc[0] > 0.999


def test_what_cannot_be_averaged_is_named():
    with pytest.raises(ArgumentError, match="two fits or more"):
        mfx.model_avg(fits()[0])
    with pytest.raises(ArgumentError, match="the same model"):
        mfx.model_avg(fits()[0], fits()[0])
    with pytest.raises(ArgumentError, match="rank='dic'"):
        mfx.model_avg(fits(), rank="dic")
    other = mfx.lmer("Reaction ~ Days + (1 | Subject)", data().head(90), reml=False)
    with pytest.raises(ArgumentError, match="different rows"):
        mfx.model_avg(fits()[0], other)
