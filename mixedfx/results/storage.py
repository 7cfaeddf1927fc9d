"""Fits in files: ``fit.save`` and :func:`read`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mixedfx.results.results import Results
from mixedfx.storage.files import read_model


def read(
    path: Any,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    trust: bool = False,
) -> Results:
    """
    Read a fit from a file that ``fit.save()`` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    functions : mapping, optional
        Functions of yours that the formula uses, by the names that they have there.
    trust : bool
        Whether the file is from someone you trust. Then modules and functions that the formula
        names are imported, and its expressions may call whatever Python can.

    Returns
    -------
    Results
        Numbers, labels and notes are those of the fit that was saved. The statsmodels result is
        fitted again when it is asked for.

    Raises
    ------
    StorageError
        If the file is missing, damaged, or from a newer version; or if its formula needs
        ``functions`` or ``trust``. The message says which.

    Notes
    -----
    The file holds no pickle, and nothing in it is run when it is read. Its formula, however, is
    evaluated by predictions: without ``trust`` it may consist of columns, the functions that every
    formula knows, and common functions of numpy and pandas.

    Examples
    --------
    >>> import tempfile, pathlib, mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit.save(pathlib.Path(folder, "fit.mfx"))
    ...     again = mfx.read(pathlib.Path(folder, "fit.mfx"))
    >>> again.predict(sleep.head(2)).equals(fit.predict(sleep.head(2)))
    True
    """
    return Results(read_model(path, functions, trust))
