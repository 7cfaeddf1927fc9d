"""Convergence diagnostics: the conditions of a minimum, and the attributes' earlier names.

Source of truth: a quadratic whose minimum, Newton decrement and eigenvalues are known.
"""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.estimation.convergence import ConvergenceDiagnostics, diagnose_convergence
from mixedfx.estimation.optimizer_result import OptimizerResult

RENAMED = {"decrease": "newton_decrement", "slack": "boundary_slope", "seconded": "confirmed_by"}


def diagnostics(gradient, hessian, boundary=()):
    result = OptimizerResult(
        np.zeros(1), "profiled", 1, True, "", 0.0, boundary_slope=9.9, confirmed_by="statsmodels"
    )
    return diagnose_convergence(
        np.asarray(gradient), np.asarray(hessian), boundary=boundary, optimizer_result=result
    )


def test_the_newton_decrement_is_the_gain_of_a_newton_step():
    g, H = np.array([0.3, -0.1]), np.array([[3.0, 1.0], [1.0, 2.0]])
    expected = 0.5 * g @ np.linalg.solve(H, g)
    assert diagnostics(g, H).newton_decrement == pytest.approx(expected, rel=1e-12)


def test_the_curvature_is_the_smallest_eigenvalue():
    assert diagnostics([0.0, 0.0], np.diag([4.0, 0.5])).curvature == pytest.approx(0.5)


def test_a_gradient_along_a_flat_direction_is_not_certified():
    assert not diagnostics([0.0, 0.1], np.diag([1.0, 0.0])).ok


def test_a_saddle_is_not_certified():
    assert not diagnostics([0.0, 0.0], np.diag([1.0, -1.0])).ok


@pytest.mark.parametrize("old", RENAMED)
def test_an_earlier_name_warns_and_gives_the_same_value(old):
    certificate = ConvergenceDiagnostics(0.0, 1e-12, 2.0, (), 9.9, "statsmodels")
    with pytest.warns(FutureWarning, match=RENAMED[old]) as warned:
        value = getattr(certificate, old)
    assert value == getattr(certificate, RENAMED[old])
    assert warned[0].filename == __file__


def test_the_boundary_is_named_with_its_slope():
    text = str(diagnostics([], np.zeros((0, 0)), boundary=("sd(Intercept | g)",)))
    assert "on the boundary: sd(Intercept | g) (boundary slope 9.9)" in text


# ------------------------------------------------------------------ in a notebook


GOOD = {"gradient": 1e-8, "newton_decrement": 1e-12, "curvature": 1.0, "boundary": ()}
GOOD |= {"boundary_slope": np.inf, "confirmed_by": None}


@pytest.mark.parametrize(
    ("worse", "condition"),
    [
        ({}, None),
        ({"newton_decrement": 1.0}, "newton_decrement"),
        ({"newton_decrement": np.nan}, "newton_decrement"),
        ({"curvature": -1.0}, "curvature"),
        ({"curvature": 0.0}, "curvature"),
        ({"boundary_slope": -1.0, "boundary": ("sd(x | g)",)}, "boundary_slope"),
        ({"boundary_slope": -np.inf, "boundary": ("sd(x | g)",)}, "boundary_slope"),
        ({"rounding": 1.0}, "rounding"),
        ({"unidentified": ("only the sum of <a> and b is identified",)}, "number of unidentified"),
    ],
)
def test_the_table_of_conditions_says_what_the_verdict_is_made_of(worse, condition):
    found = ConvergenceDiagnostics(**GOOD | worse)
    assert list(found.table.index[~found.table["holds"]]) == ([condition] if condition else [])
    assert found.ok == found.table["holds"].all()
    assert len(set(found.failures)) == len(found.failures)
    shown = found._repr_html_()
    assert ("NOT certified" in shown) == (condition is not None) == ("<td>NO</td>" in shown)
    assert "<a>" not in shown
    assert all(name in shown for name in found.table.index)
