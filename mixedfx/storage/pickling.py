"""Pickles of fitted models and specifications: the tree of :mod:`mixedfx.storage.state`.

Functions that a formula names are pickled by reference, as pickle does it. Where one cannot be, and
no pickler by value such as cloudpickle is at work, the error says so.
"""

from __future__ import annotations

import copyreg
import importlib
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.design.stream.request import ColumnRequest
from mixedfx.errors import StorageError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.storage import state

if TYPE_CHECKING:
    from mixedfx.storage.state import Node


# Packages whose picklers write functions that cannot be imported, by their code.
_BY_VALUE = {"cloudpickle", "dill"}


def reduce_to_state(value: Any) -> tuple[Callable[[Node], Any], tuple[Node]]:
    """Reduce an object to its tree, for pickle and copy."""
    writer = state.StateWriter()
    node = writer.node(value)
    _check_functions(writer.functions)
    return restore, (node,)


def restore(node: Node) -> Any:
    """Make the object of a tree."""
    return state.StateReader(importlib.import_module, lambda _, function: function).value(node)


def _check_functions(functions: Mapping[str, Any]) -> None:
    for name, function in functions.items():
        try:
            pickle.dumps(function)
        except Exception as error:
            if _pickles_by_value():
                continue
            raise StorageError(
                f"the fit cannot be pickled: its formula uses '{name}', which pickle cannot find "
                f"by an import ({error}). Define it at the top of a module, as 'def {name}(...)', "
                "or pickle the fit with cloudpickle, which writes functions with their code."
            ) from None


def _pickles_by_value() -> bool:
    """Whether a pickler that writes functions by their code is among the callers."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if _BY_VALUE & set(str(frame.f_globals.get("__name__")).split(".")):
            return True
    return False


for _cls in (FittedModel, Design, ModelSpec, RandomTermSpec, DispersionSpec, ColumnRequest):
    copyreg.pickle(_cls, reduce_to_state)
