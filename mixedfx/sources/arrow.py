"""Files that Arrow reads (Parquet, Arrow, CSV), its datasets, and functions that give readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from mixedfx._cached import cached_property
from mixedfx._extras import import_extra
from mixedfx.errors import DataError, SourceError
from mixedfx.sources.source import check_columns, check_not_empty, chunk_length, with_origin
from mixedfx.sources.texts import texts_of, to_frame, with_dictionaries

_FORMATS = {
    **dict.fromkeys((".parquet", ".pq", ".parq"), "parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "feather"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
}


def import_arrow() -> Any:
    """Import pyarrow, which is an extra."""
    import_extra("pyarrow.dataset", "files and lazy tables are read by")
    return import_extra("pyarrow", "files and lazy tables are read by")


def files_of(text: str) -> list[Path]:
    """Files of a path, a folder or a glob, in the order of their names."""
    path = Path(text).expanduser()
    if path.is_dir():
        files = [f for f in sorted(path.rglob("*")) if f.is_file() and _is_data(path, f)]
    elif path.exists():
        files = [path]
    else:
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
        files = sorted(f for f in anchor.glob(pattern) if f.is_file())
    if not files:
        raise SourceError(
            f"there is no file {text!r}; a source is a file, a folder of files, or a pattern such "
            "as 'data/*.parquet'."
        )
    return files


def _is_data(folder: Path, file: Path) -> bool:
    """Whether a file in a folder is not hidden, as Spark's _SUCCESS is."""
    return not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


@dataclass(frozen=True)
class FilesSource:
    """Files of one table, each read by row groups."""

    files: tuple[Path, ...]
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @cached_property
    def _datasets(self) -> list[Any]:
        """Dataset of each file, in the order of the files."""
        return [_open(file) for file in self.files]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the first file."""
        return tuple(self._datasets[0].schema.names)

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Row groups, cut and put together to the length of a chunk."""
        return self.coded_chunks(names, ())

    def coded_chunks(self, names: Sequence[str], coded: Collection[str]) -> Iterator[pd.DataFrame]:
        """The same; of texts of Parquet files the codes are read as they are written."""
        schema, length = self._common_schema(names), chunk_length(len(names), self.chunk_rows)
        texts = texts_of(schema, coded) if self._are_parquet else []
        datasets = [_open(file, texts) for file in self.files] if texts else self._datasets
        parts = _fragments(self.files, datasets, with_dictionaries(schema, texts), length)
        yield from _chunks(parts, names, length, self.chunk_rows, coded, texts)

    @property
    def _are_parquet(self) -> bool:
        return all(_FORMATS[file.suffix.lower()] == "parquet" for file in self.files)

    def bounds(self, name: str) -> tuple[int, int] | None:
        """Smallest and largest integer of a column, by the statistics of Parquet files."""
        return _bounds([f for d in self._datasets for f in d.get_fragments()], name)

    def _common_schema(self, names: Sequence[str]) -> Any:
        """Types of the columns in all files; those that do not go together are an error."""
        pyarrow = import_arrow()
        common = None
        for file, dataset in zip(self.files, self._datasets, strict=True):
            check_columns(names, dataset.schema.names, f"file {file}")
            own = pyarrow.schema([dataset.schema.field(name) for name in names])
            common = own if common is None else _unified(common, own, self.files[0], file)
        return common


def _open(file: Path, texts: Sequence[str] = ()) -> Any:
    """Dataset of one file, its format by the end of its name; texts with their dictionaries."""
    pyarrow = import_arrow()
    kind = _FORMATS.get(file.suffix.lower())
    if kind is None:
        raise SourceError(
            f"file {file} is none of Parquet, Arrow and CSV by its name, which ends in "
            f"'{file.suffix}'; give pyarrow.dataset.dataset(..., format=...) for another format."
        )
    try:
        return pyarrow.dataset.dataset(str(file), format=_format(kind, file.suffix.lower(), texts))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"file {file} cannot be read as {kind}: {error}") from None


def _format(kind: str, suffix: str, texts: Sequence[str]) -> Any:
    """Format of pyarrow; of CSV with empty fields that are missing, as pandas reads them."""
    if kind == "parquet":
        return import_arrow().dataset.ParquetFileFormat(dictionary_columns=list(texts))
    if kind != "csv":
        return kind
    from pyarrow import csv

    delimiter = "\t" if suffix == ".tsv" else ","
    return import_arrow().dataset.CsvFileFormat(
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )


def _unified(common: Any, own: Any, first: Path, file: Path) -> Any:
    """Schema that two files have in common, numbers widened."""
    pyarrow = import_arrow()
    try:
        return pyarrow.unify_schemas([common, own], promote_options="permissive")
    except pyarrow.ArrowException:
        for name in own.names:
            a, b = common.field(name).type, own.field(name).type
            try:
                pyarrow.unify_schemas(
                    [pyarrow.schema([(name, a)]), pyarrow.schema([(name, b)])],
                    promote_options="permissive",
                )
            except pyarrow.ArrowException:
                raise SourceError(
                    f"column '{name}' is {b} in file {file} and {a} in {first}: make it one type."
                ) from None
        raise


@dataclass(frozen=True)
class DatasetSource:
    """A dataset of pyarrow, whatever its partitions and format."""

    dataset: Any
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the schema."""
        return tuple(self.dataset.schema.names)

    def bounds(self, name: str) -> tuple[int, int] | None:
        """Smallest and largest integer of a column, by the statistics of Parquet files."""
        return _bounds(self.dataset.get_fragments(), name)

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Batches of a scan."""
        return self.coded_chunks(names, ())

    def coded_chunks(self, names: Sequence[str], coded: Collection[str]) -> Iterator[pd.DataFrame]:
        """The same, with the codes of texts."""
        length = chunk_length(len(names), self.chunk_rows)
        scanner = self.dataset.scanner(columns=list(names), batch_size=length)
        parts = [("the dataset", scanner.to_batches)]
        yield from _chunks(parts, names, length, self.chunk_rows, coded)


@dataclass(frozen=True)
class ReaderSource:
    """Readers of record batches that a function gives, a new one at each call."""

    make: Callable[[], Any]
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the schema."""
        reader = self.make()
        names = tuple(reader.schema.names)
        if hasattr(reader, "close"):
            reader.close()
        return names

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Batches of a new reader."""
        return self.coded_chunks(names, ())

    def coded_chunks(self, names: Sequence[str], coded: Collection[str]) -> Iterator[pd.DataFrame]:
        """The same, with the codes of texts."""

        def read() -> Iterator[Any]:
            reader = self.make()
            check_columns(names, reader.schema.names, "the reader")
            for batch in reader:
                yield batch.select(list(names))

        length = chunk_length(len(names), self.chunk_rows)
        yield from _chunks([("the reader", read)], names, length, self.chunk_rows, coded)


def _bounds(fragments: Iterable[Any], name: str) -> tuple[int, int] | None:
    """Range of a column over the row groups of all fragments, where each has statistics."""
    pyarrow = import_arrow()
    found: list[int] = []
    try:
        for fragment in fragments:
            for group in getattr(fragment, "row_groups", None) or [None]:
                own = (getattr(group, "statistics", None) or {}).get(name, {})
                if any(type(own.get(end)) is not int for end in ("min", "max")):
                    return None
                found += [own["min"], own["max"]]
    except (pyarrow.ArrowException, OSError):  # reading the rows says what is wrong
        return None
    return (min(found), max(found)) if found else None


Parts = list[tuple[str, Callable[[], Iterator[Any]]]]


def _fragments(files: Sequence[Path], datasets: Sequence[Any], schema: Any, length: int) -> Parts:
    """Row groups of Parquet files, whole files of other formats, with how each is read."""
    parts: Parts = []
    for file, dataset in zip(files, datasets, strict=True):
        for fragment in dataset.get_fragments():
            groups = [(f"file {file}", fragment)]
            if hasattr(fragment, "split_by_row_group"):
                split = fragment.split_by_row_group()
                groups = [(f"file {file}, row group {i}", g) for i, g in enumerate(split)]
                check_not_empty(len(groups), f"file {file}")
            parts += [(origin, _batches_of(group, schema, length)) for origin, group in groups]
    return parts


def _batches_of(fragment: Any, schema: Any, length: int) -> Callable[[], Iterator[Any]]:
    return lambda: fragment.to_batches(schema=schema, columns=schema.names, batch_size=length)


def _chunks(
    parts: Parts,
    names: Sequence[str],
    length: int,
    asked_for: int | None,
    coded: Collection[str],
    with_dictionary: Sequence[str] = (),
) -> Iterator[pd.DataFrame]:
    """
    DataFrames of so many rows, from the batches of all parts.

    Texts of some columns are coded, of those that were read with a dictionary too.

    Where no length is asked for, a batch of more than half of it is not joined to the next one:
    the columns of one batch are those of Arrow, without a copy.
    """
    least = length if asked_for is not None else length // 2
    waiting: list[Any] = []
    origins: list[str] = []
    n_waiting = 0
    for origin, read in parts:
        n_rows = 0
        for batch in _batches(origin, read):
            n_rows += batch.num_rows
            while batch.num_rows:
                taken = batch.slice(0, length - n_waiting)
                batch = batch.slice(taken.num_rows)
                waiting.append(taken)
                origins.append(origin)
                n_waiting += taken.num_rows
                if n_waiting == length or (n_waiting > least and not batch.num_rows):
                    yield _frame(waiting, names, origins, coded, with_dictionary)
                    waiting, origins, n_waiting = [], [], 0
        check_not_empty(n_rows, origin)
    if n_waiting:
        yield _frame(waiting, names, origins, coded, with_dictionary)


def _batches(origin: str, read: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Batches of one part; errors of Arrow name it."""
    pyarrow = import_arrow()
    try:
        yield from read()
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{origin} cannot be read: {error}") from None


def _frame(
    batches: list[Any],
    names: Sequence[str],
    origins: list[str],
    coded: Collection[str],
    with_dictionary: Sequence[str],
) -> pd.DataFrame:
    """One DataFrame of some batches."""
    pyarrow = import_arrow()
    origin = origins[0] if origins[0] == origins[-1] else f"{origins[0]} to {origins[-1]}"
    try:
        table = pyarrow.Table.from_batches(batches).select(list(names))
        frame = to_frame(table, [*with_dictionary, *texts_of(table.schema, coded)])
    except pyarrow.ArrowException as error:
        raise SourceError(f"{origin} cannot be read: {error}") from None
    return with_origin(frame, origin)
