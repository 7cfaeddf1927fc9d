"""A draw whose search rounding has ended is used where no step lowers the deviance."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.estimation.curvature import hessian_at_optimum
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.formula.parser import parse
from mixedfx.inference.bootstrap.refit import _ended_by_rounding
from mixedfx.likelihood.likelihood import GaussianLikelihood


@pytest.fixture(scope="module")
def likelihood():
    design = build(parse("Reaction ~ Days + (Days | Subject)"), mfx.datasets.load("sleepstudy"))
    return GaussianLikelihood.from_design(design, reml=True)


@pytest.fixture(scope="module")
def optimum(likelihood):
    design = build(parse("Reaction ~ Days + (Days | Subject)"), mfx.datasets.load("sleepstudy"))
    # Of a tolerance below the rounding error of the deviance.
    return replace(estimate_theta(design, likelihood), converged=False, tolerance=1e-15)


def end_at(likelihood, optimum, multiple):
    factors = [multiple * F for F in optimum.factors]
    deviance = likelihood.at_factors(factors).deviance
    derivatives = hessian_at_optimum(likelihood, factors)
    return replace(optimum, factors=tuple(factors), deviance=deviance, derivatives=derivatives)


def test_the_optimum_is_one(likelihood, optimum):
    assert _ended_by_rounding(likelihood, end_at(likelihood, optimum, 1.0))


@pytest.mark.parametrize("multiple", [0.5, 0.9, 1.02, 1.5, 100.0])
def test_an_end_elsewhere_is_not(likelihood, optimum, multiple):
    assert not _ended_by_rounding(likelihood, end_at(likelihood, optimum, multiple))


def test_derivatives_that_hide_what_is_left_do_not_make_an_optimum(likelihood, optimum):
    end = end_at(likelihood, optimum, 1.2)
    hidden = replace(end.derivatives, gradient=0.0 * end.derivatives.gradient)
    assert not _ended_by_rounding(likelihood, replace(end, derivatives=hidden))


def test_where_rounding_hides_nothing_the_search_has_another_reason(likelihood, optimum):
    end = end_at(likelihood, optimum, 1.0)
    assert not _ended_by_rounding(likelihood, replace(end, tolerance=1e-10))


def test_an_end_by_the_limit_or_beside_a_falling_boundary_is_not(likelihood, optimum):
    end = end_at(likelihood, optimum, 1.0)
    assert not _ended_by_rounding(likelihood, replace(end, limit_reached=True))
    assert not _ended_by_rounding(likelihood, replace(end, boundary_slope=-1.0))
