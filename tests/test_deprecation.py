"""Former public names: each warns with the new name, and gives the same value.

Source of truth: the value under the new name.
"""

from __future__ import annotations

import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError


@pytest.fixture(scope="module")
def fit():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))


RENAMED = {
    "Results.model": (lambda fit: fit.fit, lambda fit: fit.model),
    "FittedModel.optimizer_result": (
        lambda fit: fit.model.search,
        lambda fit: fit.model.optimizer_result,
    ),
    "ConvergenceDiagnostics.newton_decrement": (
        lambda fit: fit.convergence.decrease,
        lambda fit: fit.convergence.newton_decrement,
    ),
    "ConvergenceDiagnostics.boundary_slope": (
        lambda fit: fit.convergence.slack,
        lambda fit: fit.convergence.boundary_slope,
    ),
    "ConvergenceDiagnostics.confirmed_by": (
        lambda fit: fit.convergence.seconded,
        lambda fit: fit.convergence.confirmed_by,
    ),
    "EMMeans.averaged_over": (
        lambda fit: fit.emmeans("Days").averaged,
        lambda fit: fit.emmeans("Days").averaged_over,
    ),
    "Graph.enclosing_plates\\(\\)": (
        lambda fit: fit.graph().around(None),
        lambda fit: fit.graph().enclosing_plates(None),
    ),
    "mixedfx.ConvergenceDiagnostics": (
        lambda _: mfx.Certificate,
        lambda _: mfx.ConvergenceDiagnostics,
    ),
}


@pytest.mark.parametrize("new", RENAMED)
def test_a_former_name_warns_and_gives_the_same_value(fit, new):
    former, current = RENAMED[new]
    with pytest.warns(FutureWarning, match=rf"is now {new};") as caught:
        value = former(fit)
    assert value is current(fit)
    assert caught[0].filename == __file__


def test_the_former_argument_of_predict_warns_and_gives_the_same_intervals(fit):
    with pytest.warns(FutureWarning, match=r"predict\(conf_level=\)") as caught:
        former = fit.predict(interval="confidence", level=0.8)
    pd.testing.assert_frame_equal(former, fit.predict(interval="confidence", conf_level=0.8))
    assert caught[0].filename == __file__


def test_the_former_and_the_new_argument_of_predict_exclude_each_other(fit):
    with pytest.raises(ArgumentError, match="give conf_level= alone"):
        fit.predict(interval="confidence", level=0.8, conf_level=0.8)


def test_the_certificate_is_the_convergence_diagnostics(fit):
    assert fit.certificate is fit.convergence


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Certificates'"):
        _ = mfx.Certificates


def test_every_public_name_exists():
    assert [name for name in mfx.__all__ if not hasattr(mfx, name)] == []
    assert dir(mfx) == sorted(mfx.__all__)
