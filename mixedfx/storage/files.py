"""Fitted models in files: written, read, and checked before they are used."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixedfx.errors import ArgumentError, MixedfxError, StorageError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.storage.archive import read_archive, write_archive
from mixedfx.storage.checks import check_rows
from mixedfx.storage.expressions import KNOWN_MODULES, check_formula
from mixedfx.storage.state import StateReader, StateWriter


def as_path(path: Any) -> Path:
    """Path of a file."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ArgumentError(f"path={path!r:.80} must be the name of a file, such as 'fit.mfx'.")
    return Path(os.fsdecode(path))


def save_model(fit: FittedModel, path: Any) -> None:
    """Write a fitted model to a file."""
    target = as_path(path)
    node = StateWriter().node(fit)
    try:
        write_archive(target, node)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"the fit cannot be written to '{target}': {reason}.") from None


def read_model(path: Any, functions: Mapping[str, Any] | None, trust: Any) -> FittedModel:
    """Read a fitted model; each fault of the file is one StorageError."""
    target = as_path(path)
    given = _checked_functions(functions)
    if not isinstance(trust, bool | np.bool_):
        raise ArgumentError(f"trust={trust!r:.80} must be True or False.")
    try:
        with np.errstate(all="ignore"):
            reader = StateReader(_module_of(bool(trust)), _function_of(given, bool(trust)))
            fit = reader.value(read_archive(target))
            if not isinstance(fit, FittedModel):
                raise StorageError("it holds something else")
            if not trust:
                check_formula(fit.spec, set(given))
            check_rows(fit)
            return fit
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise StorageError(f"'{target}' cannot be read: {error.strerror}.") from None
    except (MixedfxError, Exception) as error:
        reason = str(error) if isinstance(error, MixedfxError) else type(error).__name__
        raise StorageError(
            f"'{target}' does not hold a fit that can be read: {reason.rstrip('.')}."
        ) from error


def _checked_functions(functions: Mapping[str, Any] | None) -> dict[str, Any]:
    if functions is None:
        return {}
    if not isinstance(functions, Mapping) or not all(isinstance(n, str) for n in functions):
        raise ArgumentError(
            f"functions={functions!r:.80} must map names in the formula to functions: {{'f': f}}."
        )
    return dict(functions)


def _module_of(trust: bool) -> Callable[[str], Any]:
    def module(name: str) -> Any:
        if not trust and name not in KNOWN_MODULES:
            raise StorageError(
                f"its formula uses the module {name!r:.80}, and importing it runs code. If you "
                "trust the file, read it with trust=True"
            )
        return importlib.import_module(name)

    return module


def _function_of(given: Mapping[str, Any], trust: bool) -> Callable[[str, Any], Any]:
    def function(name: str, path: Any) -> Any:
        if name in given:
            return given[name]
        if not trust:
            raise StorageError(
                f"its formula uses the function '{name:.80}' of yours, from {path!s:.80}. Read it "
                f"with functions={{'{name:.80}': {name:.80}}}, or with trust=True to import it"
            )
        module, _, qualified = path.partition(":")
        value = importlib.import_module(module)
        for part in qualified.split("."):
            value = getattr(value, part)
        return value

    return function
