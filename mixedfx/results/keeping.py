"""Fits in files, and fits without rows."""

from __future__ import annotations

from typing import Any

from mixedfx.results.base import ResultsBase
from mixedfx.storage import pickling  # noqa: F401  (fitted models can be pickled from here on)
from mixedfx.storage.files import save_model


class KeepingMixin(ResultsBase):
    """Writing a fit to a file."""

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
        save_model(self.model, path)
