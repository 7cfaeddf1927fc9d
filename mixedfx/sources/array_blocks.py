"""Blocks of arrays in a temporary file, which are read one after the other, and often.

The file has no name in the folder for temporary files where the system allows that, so that
nothing is left of it whatever ends the process. It is closed once nothing refers to it.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx._progress import DELAY
from mixedfx.errors import SizeError
from mixedfx.linalg.available_memory import size_text

Array = npt.NDArray[Any]


class _Place(NamedTuple):
    """Where an array is."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class ArrayBlocks:
    """Arrays by name, in blocks; ``passes`` counts how often they were read."""

    def __init__(self, n_bytes: float) -> None:
        """Make a file; SizeError where so many bytes are not there."""
        self._folder = tempfile.gettempdir()
        free = shutil.disk_usage(self._folder).free
        if n_bytes > free:
            raise self._full(f"{size_text(n_bytes)} are needed and {size_text(free)} are free")
        self._file = tempfile.TemporaryFile(prefix="mixedfx-")  # noqa: SIM115
        self._lock = Lock()  # readers in several threads share the file's position
        self._places: list[dict[str, _Place]] = []
        self._bar: Any = None
        self._shows_bar = False
        self.passes = 0
        # Nobody else closes a file that a fit keeps.
        self.close = weakref.finalize(self, self._file.close)

    @contextmanager
    def during_fit(self) -> Iterator[None]:
        """Show a bar of the readings; the file is kept unless there is an error."""
        self._shows_bar = True
        try:
            yield
        except BaseException:
            self.close()
            raise
        finally:
            self._shows_bar = False
            if self._bar is not None:
                self._bar.close()

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._places)

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        with self._lock:
            return self._file.seek(0, 2)

    def append(self, arrays: Mapping[str, Array]) -> None:
        """Write a block."""
        self._places.append({})
        self.extend(len(self) - 1, arrays)

    def extend(self, block: int, arrays: Mapping[str, Array]) -> None:
        """Write further arrays of a block."""
        for name, array in arrays.items():
            data = np.ascontiguousarray(array).data.cast("B") if array.size else b""
            with self._lock:
                start = self._file.seek(0, 2)
                try:
                    self._file.write(data)
                    self._file.flush()
                except OSError as error:
                    raise self._full(str(error)) from None
            self._places[block][name] = _Place(start, array.dtype, array.shape)

    def block(self, i: int, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Arrays of one block, or some of them."""
        found = {}
        for name, (start, dtype, shape) in self._places[i].items():
            if names is not None and name not in names:
                continue
            array = np.empty(shape, dtype)
            if array.size:
                with self._lock:
                    self._file.seek(start)
                    self._file.readinto(array.data.cast("B"))
            found[name] = array
        return found

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Read all blocks; a bar shows the readings of a fit after two seconds."""
        if self._shows_bar:
            from tqdm.auto import tqdm

            if self._bar is None:
                self._bar = tqdm(desc="fit", unit=" readings", delay=DELAY, leave=False)
            self._bar.update(1)
        self.passes += 1
        for i in range(len(self)):
            yield self.block(i)

    def _full(self, reason: str) -> SizeError:
        return SizeError(
            f"the rows are kept in a file in {self._folder} while the model is fitted, and there "
            f"is no room for them: {reason}. Set the environment variable TMPDIR to a folder on a "
            "larger disk before Python starts."
        )
