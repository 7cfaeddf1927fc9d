"""``squeeze(y)``: shares moved off 0 and 1, with the number of rows of the fit."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import MixedfxError


def shares() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(20), 10)
    y = rng.beta(3.0, 2.0, 200).round(1)
    y[:2] = 0.0, 1.0
    return pd.DataFrame({"g": g, "x": rng.normal(size=200), "y": y})


@pytest.mark.full
def test_it_is_smithson_and_verkuilen_s_shrinkage():
    data = shares()
    data["z"] = (data["y"] * 199 + 0.5) / 200
    squeezed = mfx.glmer("squeeze(y) ~ x + (1 | g)", data, family="beta")
    own = mfx.glmer("z ~ x + (1 | g)", data, family="beta")
    assert squeezed.llf == pytest.approx(own.llf, abs=1e-9)
    np.testing.assert_allclose(squeezed.params, own.params, rtol=1e-9)


def test_a_share_of_0_is_told_of_it_and_its_advice_works():
    data = shares()
    with pytest.raises(MixedfxError, match=r"squeeze\(y\) for the response y"):
        mfx.glmer("y ~ x + (1 | g)", data, family="beta")
    assert mfx.glmer("squeeze(y) ~ x + (1 | g)", data, family="beta").converged


def test_what_is_no_share_is_named():
    with pytest.raises(MixedfxError, match="takes shares from 0 to 1"):
        mfx.glmer("squeeze(100 * y) ~ x + (1 | g)", shares(), family="beta")
