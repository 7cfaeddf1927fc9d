"""Fits in files, and fits without rows."""

from __future__ import annotations

from typing import Any, Self, cast

import mixedfx.storage.pickling  # noqa: F401  (fitted models can be pickled from here on)
from mixedfx.results.base import ResultsBase
from mixedfx.storage import files
from mixedfx.storage import slim as slimming


class KeepingMixin(ResultsBase):
    """Writing a fit to a file."""

    def slim(self) -> Self:
        """
        Leave out the rows: the fit for a prediction service.

        Returns
        -------
        Results
            Estimates, tests, marginal means, and predictions of new data are those of this fit.
            What needs the rows (residuals, fitted values, simulations, refits, most plots) raises
            an error.

        Raises
        ------
        RowsNotInMemory
            By what needs the rows.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.slim().predict(sleep).equals(fit.predict(sleep))
        True
        """
        slim: Self = cast(Any, type(self))(slimming.slim_model(self.model))
        return slim

    def save(self, path: Any) -> None:
        """
        Write the fit to a file, from which :func:`mixedfx.read` makes it again.

        Parameters
        ----------
        path : str or path-like
            The file, such as ``"fit.mfx"``. It is replaced when the new one is complete.

        Raises
        ------
        StorageError
            If the formula uses a function that cannot be imported, or the file cannot be written.

        Notes
        -----
        The file is a zip of JSON and ``.npy`` arrays, with a checksum of each; the rows that were
        used are in it. It has the same bytes each time. :meth:`slim` leaves the rows out.

        Examples
        --------
        >>> import tempfile, pathlib, mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fit.save(pathlib.Path(folder, "fit.mfx"))
        ...     mfx.read(pathlib.Path(folder, "fit.mfx")).sigma == fit.sigma
        True
        """
        files.save_model(self.model, path)
