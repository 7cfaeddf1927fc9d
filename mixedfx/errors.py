"""Exceptions and warnings of mixedfx.

::

    MixedfxError
    ├── FormulaError                 the text of a formula; shows it with a caret
    ├── DataError                    the data, as that formula uses it
    │   ├── EmptyDataError           no rows, or none left after dropping missing values
    │   ├── MissingColumnError       a name that is not a column; offers the nearest ones
    │   ├── ColumnTypeError          a column, weight or offset of the wrong type or shape
    │   ├── InfiniteValueError       an infinite or undefined value in a used column
    │   ├── ResponseError            a response that is not numeric, or does not vary
    │   ├── GroupingError            a grouping factor with too few or too many levels
    │   ├── WeightsError             weights or residual_sd that are not positive
    │   ├── SizeError                columns, levels or terms beyond memory; says the bytes
    │   ├── DispersionError          a dispersion formula that the data cannot identify
    │   │   └── TooManyStrata        more residual variances than sums are kept for
    │   ├── NewLevelError            prediction for a level, or value, that the fit does not have
    │   └── SourceError              a file or stream of rows that cannot be read; says where
    │       └── SourceChangedError   a second pass over the rows that differs from the first
    ├── ArgumentError                an argument outside its choices; lists them
    │   ├── CallError                an argument that a function does not have, or that is missing
    │   ├── MissingPackageError      an extra that is not installed; gives the command
    │   ├── PriorError               a prior of the wrong kind, or of no parameter
    │   └── RelationshipError        a relationship matrix that is none, or lacks levels
    ├── UnknownAttributeError        a name that a fit does not have; names ours
    ├── EngineError
    │   ├── EngineRefusal            the engine cannot express the model; says why
    │   ├── EngineDisagreement       two computations of one likelihood differ
    │   └── SearchError              the optimiser failed
    │       └── ModesNotFound        no conditional modes at some parameters
    ├── StorageError                 a fit that cannot be kept, or a file that is none; says why
    ├── RowsNotInMemory              a fit without its rows was asked for what needs them
    └── DatasetError                 an example data set that is unknown or damaged

    MixedfxWarning
    ├── DroppedRowsWarning           more than a tenth of the rows have missing values
    ├── ColumnWarning                a column is probably not meant as it is used
    ├── DroppedColumnsWarning        dependent fixed-effect columns were left out
    │   └── NotEstimableWarning      new rows or means that the data do not determine: NaN
    ├── SingularFitWarning           a variance is zero, or a correlation is one
    ├── ConvergenceWarning           the optimiser did not reach an optimum
    ├── SelectionWarning             tests of a model that the same data selected
    ├── SamplingWarning              too few draws, or chains that differ; names the parameters
    └── ExtrapolationWarning         a spline beyond its boundary knots; names the value

Errors that report an invalid value also derive from :class:`ValueError`.
"""

from __future__ import annotations

import difflib
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from mixedfx._names import decode, written
from mixedfx._tracebacks import short_traceback


class MixedfxError(Exception):
    """Base of every error that mixedfx raises."""

    def __init__(self, *args: object) -> None:
        # Messages show names as they are in the data, not as identifiers of formulas.
        super().__init__(*(decode(a) if isinstance(a, str) else a for a in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and attributes, not by the arguments of the class's ``__init__``."""
        return _restored, (type(self), self.args, vars(self))

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows; ``%xmode Verbose`` and ``__traceback__`` have all frames."""
        return short_traceback(self)


def _restored(cls: type[MixedfxError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    vars(error).update(state)
    return error


class FormulaError(MixedfxError, ValueError):
    """
    An invalid formula.

    Parameters
    ----------
    problem : str
        What is wrong, as a sentence.
    text : str
        The formula as given.
    start, end : int
        Range of the characters of ``text`` at fault.
    advice : str
        Correct form.
    """

    def __init__(self, problem: str, text: str, start: int, end: int, advice: str = "") -> None:
        start = max(0, min(start, len(text)))
        end = max(start + 1, end)
        line = text.replace("\n", " ").replace("\t", " ")
        message = f"{problem}\n\n    {line}\n    {' ' * start}{'^' * (end - start)}"
        super().__init__(f"{message}\n\n{written(advice)}" if advice else message)
        self.problem, self.advice = decode(problem), written(advice)
        self.text, self.start, self.end = text, start, end


class DataError(MixedfxError, ValueError):
    """Data that a formula cannot be fitted to."""


class EmptyDataError(DataError):
    """No rows, or none left after dropping missing values."""


class MissingColumnError(DataError):
    """A name that is not a column of the data."""


class ColumnTypeError(DataError):
    """A column, weight or offset of the wrong type or shape."""


class InfiniteValueError(DataError):
    """An infinite or undefined value in a used column."""


class ResponseError(DataError):
    """A response that is not numeric, or does not vary."""


class GroupingError(DataError):
    """A grouping factor with too few or too many levels."""


class WeightsError(DataError):
    """Weights, or known residual standard deviations, that are not positive."""


class SizeError(DataError):
    """A fixed part or a factorisation that needs more memory, or far more time, than there is."""


class DispersionError(DataError):
    """A dispersion formula that is invalid, or that the data cannot identify."""


class TooManyStrata(DispersionError):
    """A dispersion formula with more residual variances than rows in chunks are summed by."""


class NewLevelError(DataError):
    """Prediction for a level of a group, or a value of a category, that is not in the fit."""


class SourceError(DataError):
    """A file, a partition or a stream of rows that cannot be read."""


class SourceChangedError(SourceError):
    """Rows that were read a second time, and were not those of the first."""


class ArgumentError(MixedfxError, ValueError):
    """An argument outside its choices."""


class CallError(ArgumentError, TypeError):
    """An argument that a function does not have, or a missing one that it needs."""


class UnknownAttributeError(MixedfxError, AttributeError):
    """A name that a fit does not have."""


class MissingPackageError(ArgumentError, ModuleNotFoundError):
    """A package that is an extra, and is not installed."""


class PriorError(ArgumentError):
    """A prior of the wrong kind, of an unknown parameter, or with invalid arguments."""


class RelationshipError(ArgumentError):
    """A relationship matrix that is not one, or does not have the levels of its factor."""


class EngineError(MixedfxError):
    """An engine failed, or its result is inconsistent."""


class EngineRefusal(EngineError, ValueError):
    """The engine cannot express the model."""


class EngineDisagreement(EngineError):
    """
    Two computations of one log-likelihood differ by more than rounding.

    Parameters
    ----------
    engine : str
        Name of the engine.
    claimed, recomputed : float
        Log-likelihood that it reports, and that of the common criterion at the same theta.
    """

    def __init__(self, engine: str, claimed: float, recomputed: float) -> None:
        super().__init__(
            f"engine '{engine}' reports log-likelihood {claimed:.10g}, but at its parameters the "
            f"criterion gives {recomputed:.10g}. One of the two is wrong, so no fit is returned: "
            "try another engine= and please report the model."
        )
        self.engine, self.claimed, self.recomputed = engine, claimed, recomputed


class SearchError(EngineError):
    """The optimiser of theta failed."""


class ModesNotFound(SearchError):
    """The conditional modes of a generalised model were not found at some parameters."""


class StorageError(MixedfxError, ValueError):
    """A fit that cannot be pickled or saved, or a file that does not hold one."""


class RowsNotInMemory(MixedfxError, ValueError):
    """A fit without its rows, as ``fit.slim()`` gives it, was asked for what needs them."""


class DatasetError(MixedfxError, ValueError):
    """An example data set that is unknown or damaged."""


class MixedfxWarning(UserWarning):
    """Base of every warning that mixedfx issues."""


class DroppedRowsWarning(MixedfxWarning):
    """More than a tenth of the rows have missing values and were left out."""


class ColumnWarning(MixedfxWarning):
    """A column is probably not meant as it is used, such as row numbers as a fixed effect."""


class DroppedColumnsWarning(MixedfxWarning):
    """Dependent fixed-effect columns were left out."""


class NotEstimableWarning(DroppedColumnsWarning):
    """New rows, means or hypotheses are not estimable from the data, and NaN."""


class SingularFitWarning(MixedfxWarning):
    """A variance is estimated as zero, or a correlation as plus or minus one."""


class ConvergenceWarning(MixedfxWarning):
    """The optimiser did not reach an optimum."""


class SelectionWarning(MixedfxWarning):
    """Tests and intervals of a model that the same data selected, which do not know of that."""


class SamplingWarning(MixedfxWarning):
    """There are too few draws, or chains differ."""


class ExtrapolationWarning(MixedfxWarning):
    """A spline is evaluated beyond its boundary knots."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Suggest the known names nearest to one that was not found; empty if none is near.

    Examples
    --------
    >>> did_you_mean("subject", ["Reaction", "Days", "Subject"])
    " Did you mean 'Subject'?"
    """
    by_folded = {k.casefold(): k for k in known}
    # A component of an interaction counts as near: 'school' of 'state:school'.
    components = [k for k in by_folded if name.casefold() in k.split(":")]
    near = components[:2] or difflib.get_close_matches(name.casefold(), by_folded, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_folded[k]) for k in near)}?" if near else ""


def brief(value: object) -> str:
    """Text of a value in a message: its repr, or its type where that is long."""
    try:
        text = repr(value)
    except Exception:  # a faulty __repr__ of the caller's
        text = ""
    if text and "\n" not in text and len(text) <= 60:
        return text
    shape = getattr(value, "shape", None)
    of_shape = f" of shape {shape}" if isinstance(shape, tuple) else ""
    return f"<{type(value).__name__}{of_shape}>"


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise an ``ArgumentError`` if the value of an argument is not among its choices."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ArgumentError(f"{name}={brief(value)} is not one of the choices {listed}.{hint}")


def check_share(name: str, value: object) -> None:
    """Raise an ``ArgumentError`` if an argument is not strictly between zero and one."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        usual = 0.05 if name.startswith("alpha") else 0.95
        raise ArgumentError(
            f"{name}={brief(value)} must be a number between 0 and 1, such as {usual}."
        )


def check_flag(name: str, value: object, meaning: str = "") -> None:
    """Raise an ``ArgumentError`` if a switch is neither True nor False, as the text "no" is."""
    if not _is_bool(value):
        raise ArgumentError(f"{name}={brief(value)} must be True or False{meaning}.")


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool_)


def check_count(
    name: str,
    value: Any,
    least: int = 1,
    *,
    most: int = 10_000_000,
    what: str = "a positive integer",
) -> int:
    """Return an argument as an int; raise an ``ArgumentError`` if it is none, or out of range."""
    try:
        count = least - 1 if _is_bool(value) else operator.index(value)
    except TypeError:
        count = least - 1
    if not least <= count <= most:
        limit = f", at most {most:,}" if count > most else ""
        raise ArgumentError(f"{name}={brief(value)} must be {what}{limit}.")
    return count


def name_list(name: str, value: object) -> list[str]:
    """Names given one alone or in an iterable; raise if they are not text."""
    names = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if not all(isinstance(one, str) for one in names):
        raise ArgumentError(f"{name}={brief(value)} must be a name or a list of names.")
    return [str(one) for one in names]
