"""Responses outside a family's support: first rows, what was seen, which family takes them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mixedfx.errors import ResponseError
from mixedfx.families import FAMILIES, resolve_family

INDEX = pd.Index(["a", "b", "c", "d"])
NAN = float("nan")


@pytest.mark.parametrize(
    ("family", "y", "w", "message"),
    [
        (
            "poisson",
            [1, -2, 3, -4],
            None,
            "'y' is -2 in row b, -4 in row d, but .*counts.*'gaussian'",
        ),
        ("poisson", [1, 2.5, 3, 4], None, "2.5 in row b.*'gamma' or 'gaussian'"),
        ("nbinom2", [1, 2.5, 3, 0], None, "2.5 in row b.*'gaussian'"),
        ("nbinom1", [-1, -2, -3, -4], None, r"-3 in row c \(4 of 4 rows\)"),
        ("gamma", [1.5, 0, 3, 4], None, "is 0 in row b, but .*positive.*'gaussian'"),
        ("gamma", [0, 1, 0, 2], None, "family='poisson' or 'nbinom2'"),
        ("inverse_gaussian", [1.5, -1, 3, 4], None, "-1 in row b.*'gaussian'"),
        ("binomial", [0, 1, 2, 1], None, "is 2 in row c.*'poisson' or 'nbinom2'"),
        ("binomial", [0, 0.5, 0.2, 1], None, "0.5 in row b.*prop\\(k, n\\)"),
        ("binomial", [0, -0.5, 1, 1], None, "-0.5 in row b.*'gaussian'"),
        ("binomial", [0.5, 1.2, 0, 1], [4, 5, 3, 2], "6 of 5 trials in row b.*more successes"),
        ("binomial", [0.5, -0.2, 0, 1], [4, 5, 3, 2], "-1 of 5 trials in row b"),
        ("binomial", [0.5, 0.5, 0, 1], [4, 5, 3, 2], "2.5 of 5 trials in row b.*cbind"),
        ("binomial", [0.5, 0.4, 0, 1], [4, 2.5, 3, 2], "1 of 2.5 trials in row b.*whole"),
        ("gaussian", [0.5, NAN, 0, 1], None, "nan in row b.*missing"),
        ("poisson", [0, NAN, 0, 1], None, "nan in row b.*missing"),
    ],
)
def test_a_response_outside_the_support_is_named(family, y, w, message):
    w = None if w is None else np.array(w, dtype=float)
    with pytest.raises(ResponseError, match=message):
        resolve_family(family).check_response("y", np.array(y, dtype=float), w, INDEX)


@pytest.mark.parametrize(
    ("family", "y", "w"),
    [
        ("binomial", [0, 1, 1, 0], None),
        ("binomial", [0.5, 1, 0, 0.25], [2, 1, 3, 4]),
        ("binomial", [0.5, 0.5, 0.5, 0.5], [2, 4, 2, 2]),
        ("binomial", [0.333, 1, 0, 0.25], [3, 1, 0, 4]),
        ("poisson", [0, 1, 7, 0], None),
        ("gamma", [0.1, 1, 7, 9], [1, 2, 1, 0.5]),
        ("gaussian", [-0.1, 1, 7, 9], None),
    ],
)
def test_a_response_within_the_support_passes(family, y, w):
    w = None if w is None else np.array(w, dtype=float)
    resolve_family(family).check_response("y", np.array(y, dtype=float), w, INDEX)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_constant_response_is_an_error(name):
    value = 0.5 if name == "beta" else 1.0
    family = resolve_family(name).of_categories(("1", "2"))
    with pytest.raises(ResponseError, match=f"'y' is {value:g} in every row: nothing to explain"):
        family.check_response("y", np.full(4, value))


def test_a_beta_binomial_response_of_single_trials_is_an_error():
    with pytest.raises(ResponseError, match="one trial in every row"):
        resolve_family("betabinomial").check_response("y", np.array([0.0, 1.0, 1.0]))


def test_shares_of_0_and_1_are_told_how_to_be_squeezed():
    with pytest.raises(ResponseError, match=r"squeeze\(y\) for the response y"):
        resolve_family("beta").check_response("y", np.array([0.0, 0.3, 1.0]))


def test_successes_in_all_trials_of_all_rows_are_an_error():
    with pytest.raises(ResponseError, match="'y' is 1 of all trials in every row"):
        resolve_family("binomial").check_response("y", np.ones(4), np.array([3.0, 4, 5, 6]))
