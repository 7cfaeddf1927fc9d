r"""Formula to equations: the model level by level, as a textbook writes it.

.. math:: \mathrm{rating}_{ij} \mid R_i \sim N(R_i, \sigma^2), \qquad
          R_i \sim N(R, \sigma_{\mathrm{friend}}^2)

The one idea is that a formula is read once (:func:`mixedfx.dag.read`) and every symbol is
spelled twice, in Unicode and in LaTeX, so that the two can not say different things. What the
data would add, names of columns and estimates, is passed in as plain mappings.

Nothing here knows data, fits or results.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from mixedfx.dag import INTERCEPT, Effects, Math, Reading, plain, read, sd_symbol, split
from mixedfx.errors import ArgumentError
from mixedfx.formula import Formula

# From here on a mean has a line of its own, and is broken into lines of this length.
_LONGEST = 60
# Correlation matrices of more effects than these are named, not written out.
_MOST_EFFECTS = 8
# patsy's functions of which one call gives several columns, as many as the data say.
_SEVERAL = ("C", "bs", "cc", "cr", "te", "poly")
_HIGH = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS, _PLUS = Math("−", "-"), Math("+", "+")
_SIGMA, _RHO = Math("σ", r"\sigma"), Math("ρ", r"\rho")


@dataclass(frozen=True)
class Columns:
    """
    Names of a model's columns, which only data tell where a term is categorical.

    Parameters
    ----------
    fixed : sequence of str
        Of the fixed part; ``Intercept`` for the intercept.
    random : sequence of sequence of str
        Of each random term, in the formula's order.

    Examples
    --------
    >>> columns = Columns(["Intercept", "cond[T.b]"], [["Intercept"]])
    """

    fixed: Sequence[str]
    random: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Estimates:
    """
    A fit's estimates, to be written instead of symbols.

    Parameters
    ----------
    fixed : mapping of str to float
        Coefficient by column; NaN for a column that was left out.
    sds : sequence of mapping of str to float
        For each random term, in the formula's order: standard deviation by effect.
    sigma : float
        Residual standard deviation.
    correlations : sequence of mapping of (str, str) to float
        For each random term: correlation by pair of effects, in either order; may be left
        out where no term has several effects.

    Examples
    --------
    >>> estimates = Estimates({"Intercept": 7.1}, [{"Intercept": 1.2}], 1.6)
    >>> print(equation("rating ~ 1 + (1 | friend)", estimates=estimates).unicode)
    ratingᵢⱼ | Rᵢ ~ N(Rᵢ, 1.6²)
               Rᵢ ~ N(7.1, 1.2²)
    """

    fixed: Mapping[str, float]
    sds: Sequence[Mapping[str, float]]
    sigma: float
    correlations: Sequence[Mapping[tuple[str, str], float]] = ()

    @property
    def columns(self) -> Columns:
        """Names of the columns."""
        return Columns(tuple(self.fixed), tuple(tuple(sds) for sds in self.sds))


@dataclass(frozen=True)
class Line:
    """
    One equation.

    Parameters
    ----------
    left : Math
        What stands before the sign.
    sign : {"~", "="}
        Distribution or definition.
    right : tuple of str
        What stands after it in Unicode, line by line.
    latex : str
        The same in LaTeX; ``&`` where further lines are aligned.
    """

    left: Math
    sign: Literal["~", "="]
    right: tuple[str, ...]
    latex: str


@dataclass(frozen=True)
class Equation:
    """
    A model's equations; ``str()`` gives them in Unicode, and a notebook sets them.

    Parameters
    ----------
    lines : tuple of Line
        The response first, then the levels from the inner to the outer ones.
    where : tuple of (str, str)
        What each index numbers.
    notes : tuple of str
        What the equations do not show: means that were folded into others, columns that only
        data tell.

    Examples
    --------
    >>> print(equation("rating ~ 1 + (1 | friend)"))
    ratingᵢⱼ | Rᵢ ~ N(Rᵢ, σ²)
               Rᵢ ~ N(R, σ_friend²)
    <BLANKLINE>
    where i numbers the levels of friend and j the rows.
    """

    lines: tuple[Line, ...]
    where: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def unicode(self) -> str:
        """The equations for a terminal, the signs below each other."""
        width = max(len(line.left.unicode) for line in self.lines)
        shown = []
        for line in self.lines:
            head = f"{line.left.unicode:>{width}} {line.sign} "
            shown += [head + line.right[0]]
            shown += [" " * len(head) + more for more in line.right[1:]]
        return "\n".join(shown)

    @property
    def latex(self) -> str:
        """The equations in LaTeX: an ``aligned`` environment, to stand in mathematics."""
        signs = {"~": r"\sim", "=": "="}
        shown = [f"{line.left.latex} &{signs[line.sign]} {line.latex}" for line in self.lines]
        body = " \\\\\n".join(shown)
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    def __str__(self) -> str:
        """Print the equations, what their indices mean, and the notes."""
        words = [textwrap.fill(text, 80) for text in (self._words("{}"), *self.notes)]
        return "\n\n".join([self.unicode, *words])

    def _repr_latex_(self) -> str:
        words = [self._words("${}$"), *(note.replace("$", r"\$") for note in self.notes)]
        return "\n\n".join([f"$$\n{self.latex}\n$$", *words])

    def _words(self, form: str) -> str:
        """Say what the indices number."""
        groups, (row, rows) = self.where[:-1], self.where[-1]
        told = [f"{form.format(letter)} those of {label}" for letter, label in groups]
        told.append(f"{form.format(row)} the {rows}")
        first, _, rest = told[0].partition(" ")
        rest = rest.replace("those", "the levels", 1) if groups else rest
        return f"where {_and([f'{first} numbers {rest}', *told[1:]])}."


def equation(
    formula: str | Formula,
    *,
    nested: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    estimates: Estimates | None = None,
    weights: str | bool = False,
    offset: str | bool = False,
    digits: int = 4,
) -> Equation:
    """
    Write a formula's model as equations, level by level.

    Parameters
    ----------
    formula : str or Formula
        Without ``.``, as only data say what it stands for.
    nested : mapping of str to str, optional
        Inner to outer grouping factor, where the data nest what the formula does not.
    columns : Columns, optional
        Names of the data's columns. Without them each name in the formula is taken for one
        column; what surely stands for several, such as ``C(f)``, is written by its name.
    estimates : Estimates, optional
        Numbers to write instead of symbols; they name the columns too.
    weights : str or bool
        Whether rows have weights, or the weights' name: the residual variance is divided by
        them.
    offset : str or bool
        Whether the mean has a known part, or its name.
    digits : int
        Significant digits of the estimates.

    Returns
    -------
    Equation
        Effects scatter around those of the outer level that have the same columns, and around
        zero where there are none; the overall mean stands with the first random term if all
        are intercepts, else in the response's mean.

    Raises
    ------
    FormulaError
        If the formula cannot be parsed, or has a dot.
    ArgumentError
        If ``columns`` or ``estimates`` do not fit the formula.

    Examples
    --------
    >>> print(equation("Reaction ~ Days + (Days | Subject)").unicode)
    Reactionᵢⱼ | bᵢ ~ N(β₀ + b₀ᵢ + (β₁ + b₁ᵢ) Daysᵢⱼ, σ²)
    bᵢ = (b₀ᵢ, b₁ᵢ) ~ N(0, Σ_Subject)
          Σ_Subject = ⎡σ_Intercept²          ρ σ_Intercept σ_Days⎤
                      ⎣ρ σ_Intercept σ_Days  σ_Days²             ⎦
    """
    reading = read(formula, nested)
    writer = _writer(reading, columns, estimates, digits)
    lines = [*_response(writer, weights, offset)]
    for i in _inwards_out(reading.effects):
        lines += _level(writer, i)
    groups = tuple((f.index, f.label) for f in reading.factors if f.index)
    return Equation(tuple(lines), (*groups, (reading.index, "rows")), tuple(_notes(writer)))


# ---------------------------------------------------------------- symbols or numbers


@dataclass(frozen=True)
class _Writer:
    """Symbols of a reading's columns, or the numbers that take their place."""

    reading: Reading
    fixed: tuple[str, ...]
    random: tuple[tuple[str, ...], ...]
    tags: Mapping[str, str]
    estimates: Estimates | None
    digits: int

    def number(self, value: float) -> Math:
        """A number without its sign, as it stands in a formula."""
        return _number(abs(value), self.digits)

    def coefficient(self, column: str) -> tuple[Math, Math]:
        """Sign and size of a fixed coefficient."""
        if self.estimates is not None:
            value = self.estimates.fixed[column]
            return _MINUS if value < 0 else _PLUS, self.number(value)
        beta, tag = Math("β", r"\beta"), self.tags[column]
        return _PLUS, beta.at(tag) if tag.isdecimal() else beta.of(tag)

    def effect(self, i: int, column: str) -> Math:
        """One random effect of one level."""
        effects, tag = self.reading.effects[i], self.tags[column]
        indices = effects.factor.indices
        if len(self.random[i]) == 1:
            return effects.letter.at(indices)
        if tag.isdecimal():
            return effects.letter.at(indices, number=int(tag))
        name = Math.name(tag)
        below = Math(f"_{name.unicode},{indices}", f"_{{{name.latex},{indices}}}")
        return effects.letter + below

    def effects(self, i: int) -> Math:
        """All random effects of one level; bold if there are several."""
        letter, factor = self.reading.effects[i].letter, self.reading.effects[i].factor
        bold = Math(letter.unicode, rf"\mathbf{{{letter.latex}}}")
        return (letter if len(self.random[i]) == 1 else bold).at(factor.indices)

    def spread(self, i: int) -> Math:
        """Standard deviation of a term's only effect, or the name of several effects' matrix."""
        effects = self.reading.effects[i]
        if len(self.random[i]) > 1:
            same = len(effects.columns) > 1
            return effects.spread if same else Math("Σ", r"\Sigma").of(effects.factor.label)
        return effects.spread if self.estimates is None else self.sd(i, self.random[i][0])

    def sd(self, i: int, column: str) -> Math:
        """Standard deviation of one effect."""
        if self.estimates is not None:
            return self.number(self.estimates.sds[i][column])
        label, alone = self.reading.effects[i].factor.label, len(self.reading.factors) == 1
        return sd_symbol(column, label, scalar=False, alone=alone)

    def correlation(self, i: int, one: str, two: str) -> tuple[Math, Math]:
        """Sign and size of the correlation of two effects."""
        if self.estimates is not None:
            given = self.estimates.correlations[i]
            value = given[one, two] if (one, two) in given else given[two, one]
            # A variance of zero leaves its correlations undefined, and their products zero.
            value = 0.0 if math.isnan(value) else value
            return _MINUS if value < 0 else _PLUS, self.number(value)
        label, several = self.reading.effects[i].factor.label, len(self.random[i]) > 2
        tags = [self.tags[two], self.tags[one]] if several else []
        if sum(len(names) > 1 for names in self.random) > 1:
            return _PLUS, _RHO.of(label, *tags)
        short = all(len(tag) == 1 for tag in tags)
        return _PLUS, _RHO.at("".join(tags)) if short else _RHO.of(*tags)


def _writer(
    reading: Reading, columns: Columns | None, estimates: Estimates | None, digits: int
) -> _Writer:
    """Bring names and numbers together, and number the columns, each the same everywhere."""
    if columns is not None and estimates is not None:
        raise ArgumentError("estimates name the columns too: pass only one of the two.")
    given = estimates.columns if estimates is not None else columns
    fixed = tuple(given.fixed) if given else reading.fixed
    random = tuple(map(tuple, given.random)) if given else tuple(e.columns for e in reading.effects)
    if len(random) != len(reading.effects):
        raise ArgumentError(
            f"effects are given for {len(random)} random terms, but '{reading.formula}' "
            f"has {len(reading.effects)}."
        )
    if estimates is not None:
        _check_correlations(reading, estimates)
        fixed = tuple(c for c in fixed if not math.isnan(estimates.fixed[c]))
    if reading.mean is not None and INTERCEPT not in fixed:
        raise ArgumentError(f"'{reading.formula}' has an intercept; the columns given have none.")
    every = dict.fromkeys([*fixed, *(c for names in random for c in names)])
    number = count(1)
    tags = {INTERCEPT: "0"}
    for c in every:
        if c != INTERCEPT:
            tags[c] = _shown(c) if given is None and _several(c) else str(next(number))
    return _Writer(reading, fixed, random, tags, estimates, digits)


def _check_correlations(reading: Reading, estimates: Estimates) -> None:
    for i, effects in enumerate(reading.effects):
        names = tuple(estimates.sds[i])
        if len(names) < 2 or effects.term.structure == "diag":
            continue
        given = estimates.correlations[i] if i < len(estimates.correlations) else {}
        for two, one in ((b, a) for k, b in enumerate(names) for a in names[:k]):
            if (one, two) not in given and (two, one) not in given:
                raise ArgumentError(
                    f"the correlation of '{one}' and '{two}' in {effects.term} is missing "
                    "from the estimates."
                )


def _several(column: str) -> bool:
    """Whether a name stands for several columns, as far as the text tells."""
    return any(f.partition("(")[0] in _SEVERAL and "(" in f for f in split(column))


def _shown(column: str) -> str:
    return ":".join(map(plain, split(column)))


def _number(value: float, digits: int) -> Math:
    """Significant digits, with an exponent only where zeros would have to be counted."""
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return Math(text, text)
    mantissa, exponent = text.split("e")
    if 0 < int(exponent) < 7:
        return Math(f"{value:.0f}", f"{value:.0f}")
    power = str(int(exponent))
    return Math(f"{mantissa}×10{power.translate(_HIGH)}", rf"{mantissa} \times 10^{{{power}}}")


def _squared(sd: Math) -> Math:
    if "×" in sd.unicode:
        sd = Math(f"({sd.unicode})", f"({sd.latex})")
    return sd + Math("²", "^2")


# ---------------------------------------------------------------- the lines


def _response(writer: _Writer, weights: str | bool, offset: str | bool) -> Iterator[Line]:
    """The response given its parents; a long mean has a line of its own."""
    reading = writer.reading
    parents = [writer.effects(i) for i, e in enumerate(reading.effects) if e.enters]
    variance = _squared(_SIGMA if writer.estimates is None else _residual(writer))
    if weights:
        by = reading.column(weights if isinstance(weights, str) else "w")
        variance += Math("/", " / ") + by
    summands = _summands(writer)
    if offset:
        known = reading.column(offset if isinstance(offset, str) else "offset")
        summands.append((_PLUS, known))
    mean = _sum(summands)
    left = _given(reading.response, parents)
    if len(mean.unicode) <= _LONGEST:
        yield _line(left, "~", _normal(mean, variance))
        return
    eta = Math("η", r"\eta").at(reading.indices)
    yield _line(left, "~", _normal(eta, variance))
    rows = [_sum(part, first=k == 0) for k, part in enumerate(_broken(summands))]
    yield Line(
        eta, "=", tuple(r.unicode for r in rows), " \\\\\n&\\quad ".join(r.latex for r in rows)
    )


def _residual(writer: _Writer) -> Math:
    return _SIGMA if writer.estimates is None else writer.number(writer.estimates.sigma)


def _summands(writer: _Writer) -> list[tuple[Math, Math]]:
    """The response's mean, column by column: each with all its coefficients."""
    reading = writer.reading
    found: list[tuple[Math, Math]] = []
    for column in writer.tags:
        carried = column == INTERCEPT and reading.mean is not None
        parts = [] if column not in writer.fixed or carried else [writer.coefficient(column)]
        parts += [
            (_PLUS, writer.effect(i, column))
            for i, e in enumerate(reading.effects)
            if e.enters and column in writer.random[i]
        ]
        if column == INTERCEPT:
            found += parts
        elif parts:
            value = _product(reading.column(f) for f in split(column))
            sign, size = parts[0] if len(parts) == 1 else (_PLUS, _bracketed(parts))
            found.append((sign, size + Math(" ", r"\,") + value))
    return found


def _sum(summands: Sequence[tuple[Math, Math]], *, first: bool = True) -> Math:
    """Join with signs; the first one's is shown only if it is needed."""
    total = Math("", "")
    for k, (sign, size) in enumerate(summands):
        if k == 0 and first:
            total = size if sign == _PLUS else _MINUS + size
        else:
            total += (Math(" ", " ") if k else Math("", "")) + sign + " " + size
    return total if summands else Math("0", "0")


def _bracketed(parts: Sequence[tuple[Math, Math]]) -> Math:
    return Math("(", "(") + _sum(parts) + ")"


def _product(values: Iterable[Math]) -> Math:
    first, *rest = values
    for value in rest:
        first = first + Math("·", r" \cdot ") + value
    return first


def _broken(summands: Sequence[tuple[Math, Math]]) -> list[list[tuple[Math, Math]]]:
    """Fill lines with summands."""
    lines: list[list[tuple[Math, Math]]] = [[]]
    for summand in summands:
        if lines[-1] and len(_sum([*lines[-1], summand]).unicode) > _LONGEST:
            lines.append([])
        lines[-1].append(summand)
    return lines


def _inwards_out(effects: Sequence[Effects]) -> list[int]:
    """Order the terms as they follow from the response: each chain from its inner end."""
    order: dict[int, None] = {}

    def follow(i: int) -> None:
        order[i] = None
        for k in effects[i].centre:
            if k not in order and all(j in order for j, e in enumerate(effects) if k in e.centre):
                follow(k)

    for i, e in enumerate(effects):
        if e.enters:
            follow(i)
    return list(order)


def _level(writer: _Writer, i: int) -> Iterator[Line]:
    """What the effects of one term scatter around, and how widely."""
    effects, names = writer.reading.effects[i], writer.random[i]
    around = [writer.effects(k) for k in effects.centre]
    centre = _sum([(_PLUS, symbol) for symbol in around])
    if effects.carries_mean and writer.reading.mean is not None:
        centre = writer.reading.mean
        if writer.estimates is not None:
            centre = _sum([writer.coefficient(INTERCEPT)])
    left, spread = writer.effects(i), writer.spread(i)
    if len(names) == 1:
        yield _line(_given(left, around), "~", _normal(centre, _squared(spread)))
        return
    elements = [writer.effect(i, c) for c in names]
    if len(names) > _MOST_EFFECTS:
        elements[1:-1] = [Math("…", r"\dots")]
    vector = left + " = (" + _listed(elements) + ")"
    yield _line(_given(vector, around), "~", _normal(centre, spread))
    if _written_out(writer, i):
        yield from _matrix_lines(writer, i)


def _written_out(writer: _Writer, i: int) -> bool:
    """Whether a covariance matrix has a known size, and a small one."""
    names = writer.random[i]
    return len(names) <= _MOST_EFFECTS and all(writer.tags[c].isdecimal() for c in names)


def _matrix_lines(writer: _Writer, i: int) -> Iterator[Line]:
    """A covariance matrix: diagonal, written out, or as standard deviations and correlations."""
    names, matrix = writer.random[i], writer.spread(i)
    sds = [writer.sd(i, c) for c in names]
    if writer.reading.effects[i].term.structure == "diag":
        yield _line(matrix, "=", _diagonal([_squared(sd) for sd in sds]))
        return
    if len(names) == 2:
        sign, rho = writer.correlation(i, *names)
        space = Math(" ", r" \,") if writer.estimates is None else Math("·", r" \cdot ")
        covariance = _sum([(sign, rho + space + sds[0] + space + sds[1])])
        rows = [[_squared(sds[0]), covariance], [covariance, _squared(sds[1])]]
        yield _matrix_line(matrix, rows)
        return
    label = writer.reading.effects[i].factor.label
    diagonal, correlations = Math("D", "D").of(label), Math("P", "P").of(label)
    space = Math(" ", r"\,")
    yield _line(matrix, "=", diagonal + space + correlations + space + diagonal)
    yield _line(diagonal, "=", _diagonal(sds))
    rows = [
        [
            *(_sum([writer.correlation(i, one, two)]) for one in names[:k]),
            Math("1", "1"),
            *[Math("", "")] * (len(names) - k - 1),
        ]
        for k, two in enumerate(names)
    ]
    yield _matrix_line(correlations, rows)


def _matrix_line(left: Math, rows: Sequence[Sequence[Math]]) -> Line:
    """A symmetric matrix, of which the lower triangle is enough."""
    widths = [max(len(row[j].unicode) for row in rows) for j in range(len(rows))]
    cells = ["  ".join(f"{m.unicode:<{w}}" for m, w in zip(r, widths, strict=True)) for r in rows]
    middle = len(rows) - 2
    edges = [("⎡", "⎤"), *[("⎢", "⎥")] * middle, ("⎣", "⎦")]
    shown = tuple(f"{a}{row}{b}" for (a, b), row in zip(edges, cells, strict=True))
    body = r" \\ ".join(" & ".join(m.latex for m in row) for row in rows)
    return Line(left, "=", shown, rf"\begin{{bmatrix}} {body} \end{{bmatrix}}")


def _diagonal(entries: Sequence[Math]) -> Math:
    return Math("diag(", r"\operatorname{diag}(") + _listed(entries) + ")"


def _normal(mean: Math, variance: Math) -> Math:
    return Math("N(", r"\mathcal{N}(") + mean + Math(", ", r",\, ") + variance + ")"


def _given(symbol: Math, parents: Sequence[Math]) -> Math:
    return symbol + Math(" | ", r" \mid ") + _listed(parents) if parents else symbol


def _listed(symbols: Sequence[Math]) -> Math:
    first, *rest = symbols
    for symbol in rest:
        first = first + ", " + symbol
    return first


def _line(left: Math, sign: Literal["~", "="], right: Math) -> Line:
    return Line(left, sign, (right.unicode,), right.latex)


# ---------------------------------------------------------------- the notes


def _notes(writer: _Writer) -> Iterator[str]:
    """What the equations do not show."""
    reading = writer.reading
    roots = [
        e
        for i, e in enumerate(reading.effects)
        if not e.centre and INTERCEPT in writer.random[i] and INTERCEPT in reading.fixed
    ]
    if len(roots) > 1:
        folded = [e.factor.label for e in roots if not e.carries_mean]
        yield _folded(reading, list(dict.fromkeys(folded)))
    if several := [tag for tag in writer.tags.values() if not tag.isdecimal()]:
        told = "stands" if len(several) == 1 else "each stand"
        yield f"{_and(several)} {told} for several columns and coefficients, which only data tell."
    if writer.estimates is not None:
        left_out = [c for c, v in writer.estimates.fixed.items() if math.isnan(v)]
        if left_out:
            yield f"Left out, as other columns imply it: {_and(left_out)}."
    for i, names in enumerate(writer.random):
        if len(names) > 1 and not _written_out(writer, i):
            listed = _and(list(map(_shown, names)))
            yield f"{writer.spread(i)} is the covariance matrix of the effects of {listed}."


def _folded(reading: Reading, labels: list[str]) -> str:
    """Say which levels' means cannot be told from the overall one."""
    means, are, their = ("means", "are", "their") if len(labels) > 1 else ("mean", "is", "its")
    symbol = reading.mean or Math("β", r"\beta").at("0")
    return (
        f"Data tell only one overall mean: the {means} of {_and(labels)} cannot be told from the "
        f"intercept {symbol} and {are} folded into it, so {their} effects scatter around zero."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
