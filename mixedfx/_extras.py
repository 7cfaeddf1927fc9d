"""Packages that are extras, imported at first use, and the error that names how to install them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from mixedfx.errors import MissingPackageError


class _Package(NamedTuple):
    """Name of a package in the index, and the extra of mixedfx that installs it, if one does."""

    name: str
    extra: str | None


# By the module that is imported.
_PACKAGES = {
    "arviz_base": _Package("arviz-base", "bayes"),
    "arviz_stats": _Package("arviz-stats", "bayes"),
    "docx": _Package("python-docx", "docx"),
    "emcee": _Package("emcee", "bayes"),
    "great_tables": _Package("great-tables", "gt"),
    "marginaleffects": _Package("marginaleffects", None),
    "matplotlib": _Package("matplotlib", "plot"),
    "openpyxl": _Package("openpyxl", "excel"),
    "polars": _Package("polars", "polars"),
    "pyarrow": _Package("pyarrow", "parquet"),
    "sklearn": _Package("scikit-learn", "sklearn"),
}


def import_extra(module: str, needed_by: str) -> Any:
    """Import a module of an extra, or raise a MissingPackageError that says what needs it."""
    package = module.split(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing([package], needed_by) from error


def check_extras(modules: Sequence[str], needed_by: str) -> None:
    """Raise a MissingPackageError if modules are not installed, before any of them is imported."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise _missing(missing, needed_by)


def _missing(modules: Sequence[str], needed_by: str) -> MissingPackageError:
    packages = [_PACKAGES[module] for module in modules]
    names = ", ".join(package.name for package in packages)
    # Double quotes: of the shells, Windows' takes single ones for a part of the name.
    commands = [f'"mixedfx[{p.extra}]"' if p.extra else p.name for p in packages]
    listed = " ".join(dict.fromkeys(commands))
    error = MissingPackageError(f"{needed_by} {names}: python -m pip install {listed}")
    error.name = modules[0]
    return error
