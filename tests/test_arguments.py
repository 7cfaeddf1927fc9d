"""Junk in any argument is one error of the package that names it; switches are switches."""

from __future__ import annotations

import copy
import pickle
import random
import warnings

import matplotlib as mpl
import pytest
from junk_arguments import JUNK, Call, calls, flags, outcome

import mixedfx as mfx
from mixedfx import _other_programs
from mixedfx.errors import ArgumentError, MixedfxError
from mixedfx.residuals import registry

mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

# More than a tenth of a second each, or a pool of processes: cases of the full tier.
SLOW = ("plot.", "Results.bootstrap", "Results.sample", "Results.profile", "bootstrap", "draw")
SLOW += ("conf_int(", "Results.conf_int", "lmer", "pooling_fits", "Results.refit", "Results.slim")


@pytest.fixture(scope="module")
def every_call():
    return calls()


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def _complaint(call: Call, parameter, name: str) -> str | None:
    """What is wrong with the outcome of junk in one argument."""
    error = outcome(call, parameter, JUNK[name]())
    what = f"{call.name}({parameter.name}={name})"
    if error is None:
        is_flag = parameter.name in flags(call) and name != "True"
        return f"{what} is accepted" if is_flag else None
    # Files have Python's own errors, and a function of the caller's has its own.
    of_caller = parameter.name == "statistic" and name in ("lambda", "class")
    if not isinstance(error, MixedfxError | OSError) and not of_caller:
        return f"{what}: {type(error).__name__}: {error}"
    if len(str(error)) > 1500:
        return f"{what}: a message of {len(str(error))} characters"
    return None


@pytest.mark.full
def test_junk_in_a_sample_of_the_arguments_is_an_error_of_the_package(every_call):
    cases = [
        (call, parameter, name)
        for call in every_call
        if not call.name.startswith(SLOW)
        for parameter in call.parameters
        for name in JUNK
    ]
    sample = random.Random(1).sample(cases, 400)
    assert not [c for c in (_complaint(*case) for case in sample) if c]


@pytest.mark.full
def test_junk_in_any_argument_is_an_error_of_the_package(every_call):
    found = []
    for call in every_call:
        for parameter in call.parameters:
            found += [_complaint(call, parameter, name) for name in JUNK]
            plt.close("all")
    assert not [c for c in found if c]


@pytest.mark.parametrize("value", ["no", "yes", "False", 0, 1, None])
@pytest.mark.parametrize(
    ("name", "call"),
    {
        "reml": lambda fit, v: mfx.lmer(str(fit.formula), {}, reml=v),
        "se": lambda fit, v: fit.predict(se=v),
        "refit": lambda fit, v: mfx.compare(fit, fit, refit=v),
        "cond_sd": lambda fit, v: fit.ranef(cond_sd=v),
        "estimates": lambda fit, v: fit.equation(estimates=v),
        "progress": lambda fit, v: fit.bootstrap(2, progress=v),
        "intercept": lambda fit, v: fit.plot.coefficients(intercept=v),
    }.items(),
)
def test_a_switch_is_true_or_false(small_fit, name, call, value):
    with pytest.raises(ArgumentError, match=rf"{name}={value!r} must be True or False"):
        call(small_fit, value)


@pytest.fixture(scope="module")
def small_fit():
    return mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))


# ------------------------------------------------------------------ names of other programs


def test_an_attribute_that_is_not_there_is_not_there(small_fit):
    assert not hasattr(small_fit, "fixef")
    assert getattr(small_fit, "AIC", None) is None
    assert copy.copy(small_fit) is small_fit
    assert pickle.loads(pickle.dumps(small_fit)).sigma == small_fit.sigma


def test_the_names_that_are_offered_exist(small_fit):
    offered = {
        name.removesuffix("()")
        for text in _other_programs.ATTRIBUTES.values()
        for name in text.replace(",", " ").split()
        if name != "and"
    }
    assert offered <= set(dir(small_fit))
    assert not set(_other_programs.ATTRIBUTES) & set(dir(small_fit))


def test_a_property_that_fails_has_its_own_error(monkeypatch, small_fit):
    def failing(self):
        raise AttributeError("inside")

    monkeypatch.setattr(mfx.Results, "sigma", property(failing))
    with pytest.raises(AttributeError, match=r"^inside$"):
        _ = small_fit.sigma


# ------------------------------------------------------------------ warnings


def _lines_that_warn(action: str) -> list[int]:
    """Lines of the warnings of five singular fits at one line, and of one at the next."""
    data = mfx.datasets.load("Dyestuff2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        for _ in range(5):
            mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
        mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
    assert {w.filename for w in caught} == {__file__}
    return [w.lineno for w in caught]


def test_a_warning_is_given_once_a_line():
    first, second = _lines_that_warn("default")
    assert second == first + 1


def test_a_warning_is_always_given_under_that_filter():
    assert len(_lines_that_warn("always")) == 6


def test_another_text_at_the_same_line_is_another_warning():
    data = mfx.datasets.load("sleepstudy").assign(a=1.0, b=2.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for name in ("a", "b", "a"):
            mfx.lmer(f"Reaction ~ Days + {name} + (1 | Subject)", data)
    assert len(caught) == 2


def test_a_cell_that_is_run_again_warns_again():
    # IPython deletes the record of a module's warnings before each cell.
    code = compile("mfx.lmer('Yield ~ 1 + (1 | Batch)', data)", "<cell>", "exec")
    space = {"__name__": "__main__", "mfx": mfx, "data": mfx.datasets.load("Dyestuff2")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            exec(code, space)
            exec(code, space)
            del space["__warningregistry__"]
    assert len(caught) == 2
