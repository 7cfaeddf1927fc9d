"""Files of fits: a zip of JSON and ``.npy`` arrays, without pickle and without compression.

``manifest.json`` has the number of the format and the length and SHA-256 of every other member,
``model.json`` the tree of the model, ``arrays/<number>.npy`` its arrays. Members are stored as they
are, so that none can be larger than the file; each is checked before anything is made of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.errors import StorageError
from mixedfx.storage.state import Node
from mixedfx.storage.values import ValueReader, ValueWriter

Array = npt.NDArray[Any]

# Raised when files of this version cannot be read by earlier ones.
FORMAT = 1
_MAX_HEADER = 4096  # characters of the description of an array
_DATE = (1980, 1, 1, 0, 0, 0)  # the same fit gives the same file


def write_archive(path: Path, node: Node) -> None:
    """Write a tree to a file, which appears when it is complete."""
    writer = ValueWriter()
    text = json.dumps(writer.json(node), allow_nan=False, separators=(",", ":"))
    members = {"model.json": text.encode()}
    members |= {_array_name(i): _npy_bytes(a) for i, a in enumerate(writer.arrays)}
    manifest = {
        "format": FORMAT,
        "mixedfx": version("mixedfx"),
        "members": {name: [len(data), _digest(data)] for name, data in members.items()},
    }
    _write_atomically(path, {"manifest.json": json.dumps(manifest).encode(), **members})


def _array_name(number: int) -> str:
    return f"arrays/{number}.npy"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _npy_bytes(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_atomically(path: Path, members: Mapping[str, bytes]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, data in members.items():
                    archive.writestr(zipfile.ZipInfo(name, _DATE), data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_archive(path: Path) -> Node:
    """Read the tree of a file; any fault of the file is an exception of some kind."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        size = path.stat().st_size
        if sum(m.file_size for m in members) > size or len(set(archive.namelist())) < len(members):
            raise StorageError("its members overlap or are compressed")
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise StorageError("its members are compressed")
        manifest = json.loads(archive.read("manifest.json"))
        _check_format(manifest)
        listed = manifest["members"]
        if set(archive.namelist()) != {"manifest.json", *listed}:
            raise StorageError("members are missing, or there are more than it lists")
        data = {name: archive.read(name) for name in listed}
    for name, (length, digest) in listed.items():
        if len(data[name]) != length or _digest(data[name]) != digest:
            raise StorageError(f"its member {name} is not what was written")
    count = len(data) - 1
    arrays = [_array_of(data[_array_name(i)]) for i in range(count)]
    return ValueReader(arrays).node(json.loads(data["model.json"]))


def _check_format(manifest: Any) -> None:
    if type(manifest["format"]) is not int or manifest["format"] < 1:
        raise StorageError("it names no format")
    if manifest["format"] > FORMAT:
        raise StorageError(
            f"it was written by mixedfx {manifest['mixedfx']!s:.20} in format "
            f"{manifest['format']}, and this version reads formats up to {FORMAT}. Upgrade: "
            "python -m pip install --upgrade mixedfx"
        )


def _array_of(data: bytes) -> Array:
    """Array of the bytes of a ``.npy`` file, whose description must fit their number."""
    buffer = io.BytesIO(data)
    if np.lib.format.read_magic(buffer) != (1, 0):
        raise StorageError("an array has a format of its own")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(
        buffer, max_header_size=_MAX_HEADER
    )
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise StorageError("an array holds objects")
    rest = data[buffer.tell() :]
    count = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(rest):
        raise StorageError("an array's shape is not that of its values")
    values = np.frombuffer(bytearray(rest), dtype=dtype) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran_order else "C")
