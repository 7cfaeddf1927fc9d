"""Singular covariances of each structure: what counts as zero, and coordinates of reduced rank.

Source of truth: lme4's ``isSingular``, by which a standard deviation below 1e-4 residual ones is
zero; and the dimension of the set of k x k covariances of rank r, ``k r - r (r - 1) / 2``.
"""

from __future__ import annotations

import numpy as np
import pytest

import mixedfx as mfx
from mixedfx.covariance.components import ZERO, Positions
from mixedfx.covariance.parametrization import Parametrization, rank_reduced
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.estimation.boundary import boundary_parameters


class Homogeneous(CovarianceStructure):
    """One standard deviation and one correlation: the defaults of a structure."""

    name = "homogeneous"

    def n_params(self, k):
        return 2

    def factor(self, params, at):
        rho = np.tanh(params[1])
        return params[0] * np.linalg.cholesky((1 - rho) * np.eye(at.k) + rho)

    def factor_jacobian(self, params, at):
        raise NotImplementedError

    def nearest(self, cov, at):
        raise NotImplementedError

    def components(self, factor, at):
        raise NotImplementedError


def names(components):
    return [(c.kind, c.effects) for c in components]


def test_a_standard_deviation_is_zero_where_lme4_says_so():
    assert ZERO == 1e-4


@pytest.mark.parametrize("name", [n for n, s in STRUCTURES.items() if s.invariance != "scalar"])
def test_a_standard_deviation_below_the_tolerance_is_on_the_boundary(name):
    structure = STRUCTURES[name]
    assert names(structure.boundary(np.diag([1.0, 0.9e-4]))) == [("sd", (1,))]
    assert names(structure.boundary(np.diag([1.0, 1.1e-4]))) == []


def test_a_structures_own_standard_deviation_is_on_the_boundary_below_the_tolerance():
    assert names(Homogeneous().boundary(np.diag([0.9e-4, 0.9e-4]))) == [("sd", ())]
    assert names(Homogeneous().boundary(np.diag([1.1e-4, 1.1e-4]))) == []


@pytest.mark.parametrize("structure", [STRUCTURES["us"], Homogeneous()])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_correlation_is_one_where_rows_of_unit_length_are_collinear(structure, size):
    def factor(angle):
        return size * np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])

    # the smaller singular value of two unit rows at an angle a is sqrt(2) sin(a / 2)
    assert names(structure.boundary(factor(1.3e-4)))[0][0] == "corr"
    assert names(structure.boundary(factor(1.6e-4))) == []


def test_the_boundary_of_a_fit_is_in_columns_of_unit_root_mean_square():
    sleep = mfx.datasets.load("sleepstudy")
    model = mfx.lmer("Reaction ~ Days + (Days || Subject)", sleep).model
    rms = np.sqrt(np.mean(sleep["Days"] ** 2))
    below, above = (np.array([1.0, factor * 1e-4 / rms]) for factor in (0.9, 1.1))
    assert boundary_parameters(model.spec, model.crossprod, below) == ("sd(Days | Subject)",)
    assert boundary_parameters(model.spec, model.crossprod, above) == ()


@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 0), (2, 1), (2, 2), (3, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_covariances_of_a_rank_have_as_many_coordinates_as_dimensions(k, r, seed):
    root = np.random.default_rng(seed).normal(size=(k, r))
    coordinates, x = rank_reduced(Parametrization(("us",), (k,)), [root])
    assert coordinates.size == len(x) == k * r - r * (r - 1) // 2
    (factor,) = coordinates.lambdas(x)
    np.testing.assert_allclose(factor @ factor.T, root @ root.T, atol=1e-12)
    # of full rank: no direction leaves the covariance as it is
    (jacobian,) = coordinates.jacobians(x)
    half = jacobian @ factor.T
    tangents = (half + half.transpose(0, 2, 1)).reshape(len(x), k * k)
    assert np.linalg.matrix_rank(tangents) == len(x)


@pytest.mark.parametrize("r", [0, 1, 2, 3])
def test_covariances_of_reduced_rank_stay_of_that_rank(r):
    rng = np.random.default_rng(r)
    coordinates, x = rank_reduced(Parametrization(("us",), (3,)), [rng.normal(size=(3, r))])
    (factor,) = coordinates.lambdas(x + rng.normal(size=len(x)))
    assert np.linalg.matrix_rank(factor) == r


def test_uncorrelated_effects_that_vary_have_a_coordinate_each():
    diag, at = STRUCTURES["diag"], Positions(3)
    coordinates, x = diag.rank_reduced(np.diag([2.0, 0.0, 3.0])[:, [0, 2]], at)
    assert x.tolist() == [2.0, 3.0]
    np.testing.assert_array_equal(coordinates.factor(x), np.diag([2.0, 0.0, 3.0]))
