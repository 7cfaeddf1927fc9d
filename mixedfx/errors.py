"""Everything that mixedfx raises or warns, as one tree.

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
    │   ├── DispersionError          a dispersion formula that the data cannot tell
    │   └── NewLevelError            prediction for a level that the fit has not seen
    ├── ArgumentError                an argument outside its choices; lists them
    │   └── PriorError               a prior that suits no parameter, or is none
    ├── EngineError
    │   ├── EngineRefusal            the engine cannot express the model; says why
    │   ├── EngineDisagreement       two computations of one likelihood differ
    │   └── SearchError              the search for theta could not run
    └── DatasetError                 an example data set that is unknown or damaged

    MixedfxWarning
    ├── DroppedColumnsWarning        dependent fixed-effect columns were left out
    ├── SingularFitWarning           a variance is zero, or a correlation is one
    ├── ConvergenceWarning           the optimum could not be certified
    └── SamplingWarning              draws too few, or chains that differ; names the parameters

Errors that report a wrong value are also :class:`ValueError`, so that code written for
pandas or scikit-learn catches them.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable


class MixedfxError(Exception):
    """Base of every error that mixedfx raises."""


class FormulaError(MixedfxError, ValueError):
    """
    A formula that cannot be understood.

    Parameters
    ----------
    problem : str
        What is wrong, as a sentence.
    text : str
        The formula as written.
    start, end : int
        The characters of ``text`` at fault.
    advice : str
        What to write instead.
    """

    def __init__(self, problem: str, text: str, start: int, end: int, advice: str = "") -> None:
        start = max(0, min(start, len(text)))
        end = max(start + 1, end)
        line = text.replace("\n", " ").replace("\t", " ")
        shown = f"{problem}\n\n    {line}\n    {' ' * start}{'^' * (end - start)}"
        super().__init__(f"{shown}\n\n{advice}" if advice else shown)
        self.problem, self.text, self.start, self.end, self.advice = (
            problem,
            text,
            start,
            end,
            advice,
        )


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


class DispersionError(DataError):
    """A formula of the residual standard deviation that the data cannot tell."""


class NewLevelError(DataError):
    """Prediction for a level that the fit has not seen."""


class ArgumentError(MixedfxError, ValueError):
    """An argument outside its choices."""


class PriorError(ArgumentError):
    """A prior that suits no parameter, or is none."""


class EngineError(MixedfxError):
    """An engine could not do its work."""


class EngineRefusal(EngineError, ValueError):
    """The engine cannot express the model."""


class EngineDisagreement(EngineError):
    """
    Two computations of one log-likelihood differ by more than rounding.

    Parameters
    ----------
    engine : str
        The engine that made the claim.
    claimed, recomputed : float
        Its log-likelihood, and that of the common criterion at the same theta.
    """

    def __init__(self, engine: str, claimed: float, recomputed: float) -> None:
        super().__init__(
            f"engine '{engine}' reports log-likelihood {claimed:.10g}, but at its parameters the "
            f"criterion gives {recomputed:.10g}. One of the two is wrong, so no fit is returned: "
            "try another engine= and please report the model."
        )
        self.engine, self.claimed, self.recomputed = engine, claimed, recomputed


class SearchError(EngineError):
    """The search for theta could not run."""


class DatasetError(MixedfxError, ValueError):
    """An example data set that is unknown or damaged."""


class MixedfxWarning(UserWarning):
    """Base of every warning that mixedfx gives."""


class DroppedColumnsWarning(MixedfxWarning):
    """Dependent fixed-effect columns were left out."""


class SingularFitWarning(MixedfxWarning):
    """A variance is estimated as zero, or a correlation as plus or minus one."""


class ConvergenceWarning(MixedfxWarning):
    """The optimum could not be certified."""


class SamplingWarning(MixedfxWarning):
    """Draws are too few, or chains differ."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Sentence that offers the known names nearest to one that was not found.

    Parameters
    ----------
    name : str
        What was written.
    known : iterable of str
        What exists.

    Returns
    -------
    str
        ``" Did you mean 'Subject'?"``, or nothing if no name is near.

    Examples
    --------
    >>> did_you_mean("subject", ["Reaction", "Days", "Subject"])
    " Did you mean 'Subject'?"
    """
    by_folded = {k.casefold(): k for k in known}
    parts = [k for k in by_folded if name.casefold() in k.split(":")]  # 'school' of 'state:school'
    near = parts[:2] or difflib.get_close_matches(name.casefold(), by_folded, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_folded[k]) for k in near)}?" if near else ""


def expect_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """
    Refuse an argument that is not among its choices.

    Parameters
    ----------
    name : str
        The argument.
    value : object
        What was passed.
    choices : iterable of str
        What may be passed.

    Raises
    ------
    ArgumentError
        If ``value`` is not one of ``choices``; lists them.

    Examples
    --------
    >>> expect_choice("engine", "auto", ["auto", "profiled"])
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ArgumentError(f"{name}={value!r} is not one of the choices {listed}.{hint}")


def check_share(name: str, value: object) -> None:
    """
    Refuse what is no probability strictly between zero and one.

    Parameters
    ----------
    name : str
        The argument.
    value : object
        What was passed.

    Raises
    ------
    ArgumentError
        If it is none.

    Examples
    --------
    >>> check_share("conf_level", 0.95)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        # The one is a coverage, the other what is left of it.
        usual = 0.05 if name == "alpha" else 0.95
        raise ArgumentError(f"{name}={value!r} must be a number between 0 and 1, such as {usual}.")
