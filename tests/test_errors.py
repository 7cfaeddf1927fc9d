"""Errors and warnings survive a process boundary: a pool waits for ever for one that does not."""

import copy
import inspect
import pickle
import subprocess
import sys

import pytest

from mixedfx import errors

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, BaseException) and cls.__module__ == errors.__name__
]
_VALUES = {"str": "a ~ text", "object": "what is wrong", "int": 1, "float": 2.5}


def _instance(cls):
    """One instance, by the types of the arguments of its ``__init__``."""
    if "__init__" not in vars(cls):
        return cls("what is wrong")
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return cls(*(_VALUES[p.annotation] for p in parameters))


def _pickled(protocol):
    return lambda error: pickle.loads(pickle.dumps(error, protocol=protocol))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, *(_pickled(p) for p in range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_copies_and_pickles_keep_class_text_and_attributes(cls, copied):
    error = _instance(cls)
    error.add_note("a note")
    again = copied(error)
    assert type(again) is cls
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_the_classes_include_those_with_attributes():
    with_attributes = {cls.__name__ for cls in CLASSES if "__init__" in vars(cls)}
    assert {"FormulaError", "EngineDisagreement"} <= with_attributes


# ------------------------------------------------------------------ IPython

_CELLS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("colors", "NoColor")
shell.run_cell("import mixedfx as mfx, pandas as pd; d = pd.DataFrame({'y': [1.0, 2, 3]})")
shell.run_cell("def f(text):\\n    return mfx.lmer(text, d)")
for mode in ("Context", "Verbose"):
    shell.run_line_magic("xmode", mode)
    print("MODE", mode)
    shell.run_cell("f('y ~ x')")
    print("FRAMES", sys.last_value.__traceback__.tb_next is not None)
"""


@pytest.mark.full
def test_a_traceback_in_ipython_is_that_of_the_callers_lines():
    pytest.importorskip("IPython")
    command = [sys.executable, "-c", _CELLS]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    short, full = text.split("MODE Verbose")
    short = short.split("MODE Context")[1]
    assert "f('y ~ x')" in short
    assert "return mfx.lmer(text, d)" in short
    assert "MissingColumnError: " in short
    assert "'x' is not in the data" in short
    assert "api.py" not in short
    assert len(short.splitlines()) <= 10
    assert "api.py" in full
    assert text.count("FRAMES True") == 2
