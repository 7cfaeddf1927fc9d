"""Meta-analyses: metafor's numbers.

Source of truth: metafor 3.8-1 in R 4.2.2: ``rma(yi, vi, data = escalc(measure = "RR", ai = tpos,
bi = tneg, ci = cpos, di = cneg, data = dat.bcg))``, the same with ``mods = ~ ablat``, and
``rma.mv(yi, vi, random = ~ 1 | district/school, data = dat.konstantopoulos2011)``. Data: Colditz
et al. (1994), J. Am. Med. Assoc. 271:698; Konstantopoulos (2011), Res. Synth. Methods 2:61.
"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError

BCG = pd.read_csv(
    io.StringIO(
        """trial,author,ablat,yi,vi
1,Aronson,44,-0.889311333920205,0.325584765003961
2,Ferguson & Simes,55,-1.58538865720143,0.194581121398144
3,Rosenthal et al,42,-1.34807314829969,0.415367965367965
4,Hart & Sutherland,52,-1.44155119002131,0.0200100319022476
5,Frimodt-Moller et al,13,-0.217547322211296,0.0512101721696309
6,Stein & Aronson,44,-0.786115585818864,0.00690561845590876
7,Vandiviere et al,19,-1.62089822359839,0.223017247572315
8,TPT Madras,13,0.0119523335238405,0.00396157929781773
9,Coetzee & Berjak,27,-0.469417648738149,0.056434210463249
10,Rosenthal et al,42,-1.37134480347278,0.0730247936130289
11,Comstock et al,18,-0.339358828338391,0.0124122139715597
12,Comstock & Webster,33,0.445913400571379,0.532505845200153
13,Comstock et al,33,-0.0173139482168798,0.0714046596839863"""
    )
)
BCG["se"] = np.sqrt(BCG["vi"])
FOUND = mfx.meta("yi ~ 1 + (1 | trial)", BCG, variance="vi")
LATITUDE = mfx.meta("yi ~ ablat + (1 | trial)", BCG, se="se")


def test_heterogeneity_is_metafors():
    assert FOUND.tau2 == pytest.approx(0.3132433260, rel=1e-4)
    assert FOUND.tau == pytest.approx(0.55968145, rel=1e-4)
    assert pytest.approx(92.2213860750, rel=1e-5) == FOUND.I2
    assert pytest.approx(12.8557608031, rel=1e-4) == FOUND.H2
    assert FOUND.Q["Q"] == pytest.approx(152.2330080824, rel=1e-9)
    assert FOUND.Q["df"] == 12
    assert np.isnan(FOUND.R2)


def test_the_mean_and_the_interval_of_a_new_effect_are_metafors():
    row = FOUND.tidy().iloc[0]
    assert row["estimate"] == pytest.approx(-0.7145323484, rel=1e-5)
    assert row["std_error"] == pytest.approx(0.1797815318, rel=1e-5)
    assert row["conf_low"] == pytest.approx(-1.06689768, rel=1e-5)
    found = FOUND.prediction_interval()
    assert found["pred_low"] == pytest.approx(-1.8666923466, rel=1e-5)
    assert found["pred_high"] == pytest.approx(0.4376276499, rel=1e-4)


def test_moderators_are_metafors():
    table = LATITUDE.tidy().set_index("term")
    np.testing.assert_allclose(table["estimate"], [0.2514642944, -0.0291016609], rtol=1e-4)
    np.testing.assert_allclose(table["std_error"], [0.2491036664, 0.0071955548], rtol=1e-4)
    assert LATITUDE.tau2 == pytest.approx(0.0763546947, rel=1e-3)
    assert pytest.approx(68.3931305090, rel=1e-3) == LATITUDE.I2
    assert pytest.approx(75.62448, rel=1e-3) == LATITUDE.R2
    assert LATITUDE.Q["Q"] == pytest.approx(30.7330900107, rel=1e-9)
    assert LATITUDE.Q["p_value"] == pytest.approx(0.0012142910, rel=1e-7)


def test_variances_and_standard_errors_are_the_same():
    again = mfx.meta("yi ~ 1 + (1 | trial)", BCG, se=BCG["se"])
    assert again.tau2 == pytest.approx(FOUND.tau2, rel=1e-9)


def test_two_levels_have_two_variances():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"lab": np.repeat(np.arange(12), 4), "study": np.arange(48)})
    data["se"] = rng.uniform(0.1, 0.3, 48)
    data["y"] = 0.5 * rng.standard_normal(12)[data["lab"]] + 0.3 * rng.standard_normal(48)
    data["y"] += data["se"] * rng.standard_normal(48)
    found = mfx.meta("y ~ 1 + (1 | lab/study)", data, se="se")
    assert len(found.tau2) == 2
    share = float(found.tau2.sum())
    assert pytest.approx(100 * share / (share + share / (found.H2 - 1))) == found.I2
    assert "tau2" in str(found)


def test_it_is_the_mixed_model_with_known_standard_deviations():
    fit = mfx.lmer("yi ~ 1 + (1 | trial)", BCG, residual_sd="se")
    assert fit.deviance == pytest.approx(FOUND.fit.deviance, abs=1e-9)


def test_the_text_says_how_it_was_fitted():
    by_ml = mfx.meta("yi ~ 1 + (1 | trial)", BCG, se="se", reml=False)
    assert "(13 effects, ML)" in str(by_ml)
    assert "(13 effects, REML)" in str(FOUND)
    assert "tau2: trial 0.3132; I2 92.2%" in str(FOUND)


def test_plots_show_every_study():
    ax = FOUND.forest(labels=BCG["author"])
    assert [t.get_text() for t in ax.get_yticklabels()][1:] == list(BCG["author"])
    low, high = ax.get_ylim()
    assert low < 0 < 14 < high
    funnel = FOUND.funnel()
    assert len(funnel.collections[0].get_offsets()) == 13
    assert LATITUDE.funnel().get_xlabel().endswith("moderators")
    assert len(LATITUDE.forest().get_yticklabels()) == 13


@pytest.mark.parametrize(
    ("formula", "given", "message"),
    [
        ("yi ~ 1 + (1 | trial)", {}, "either se= or variance="),
        ("yi ~ 1 + (1 | trial)", {"se": "se", "variance": "vi"}, "either se= or variance="),
        ("yi ~ ablat", {"se": "se"}, "no random term"),
        ("yi ~ 1 + (1 | trial)", {"variance": "v"}, "no column"),
        ("yi ~ 1 + (1 | trial)", {"variance": -BCG["vi"]}, "negative"),
    ],
)
def test_wrong_arguments_are_refused(formula, given, message):
    with pytest.raises(ArgumentError, match=message):
        mfx.meta(formula, BCG, **given)


def test_labels_and_intervals_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="13 rows"):
        FOUND.forest(labels=["a"])
    with pytest.raises(ArgumentError, match="no column"):
        FOUND.forest(labels="author")
    with pytest.raises(ArgumentError, match="without moderators"):
        LATITUDE.prediction_interval()
