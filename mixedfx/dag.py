r"""Formula to graph: what the model's variables depend on, and whether that is a tree.

A multilevel model is one in which modelled variables depend on each other as a directed
acyclic graph. The formula alone tells the graph: a node for the random effects of each term,
for the response, the covariates and the parameters; a plate (a box that says "for each") for
each grouping factor and for the rows.

The one idea is the **centred reading**, which :func:`read` gives and the equations share:
a random effect scatters around what it belongs to, a classroom's mean around its school's, a
school's around its district's, so that the arrows follow the levels. With nested factors alone
each row has one chain of parents, and the levels form a tree. With crossed ones the response
has several modelled parents, and they do not. A term that lies in no other with the same
effects scatters around zero, since the fixed coefficients hold its mean; only where all terms
are random intercepts does the first carry the overall mean, as in :math:`R_i \sim N(R, s^2)`.

Nothing here knows data: counts, and nesting that the formula does not write, are passed in.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from mixedfx.errors import ArgumentError, FormulaError, did_you_mean
from mixedfx.formula import Formula, RandomTerm, parse, terms_of

Kind = Literal["parameter", "random", "response", "covariate"]

INTERCEPT = "Intercept"

# First the letters that have a subscript in Unicode; no model in sight needs the rest.
_INDICES = "ijklmnprstuvhxabcdfgqwyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_EFFECTS = "bcdfgqwzBDFGHKLPQTUVWXYZ"
_LOW = dict(zip("0123456789aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
# In \mathrm, signs would be set as operators with space around them, or end the group.
_LATEX = {c: rf"\{c}" for c in "_%#&${} "} | {c: rf"\text{{{c}}}" for c in "-:,=+*;!?/'`"}
_LATEX |= {"\\": r"\backslash{}"}
_LATEX |= {"~": r"{\sim}", "^": r"{\wedge}", "|": r"{\vert}", "<": r"{\lt}", ">": r"{\gt}"}
# Names before a dot that are modules, not columns.
_MODULES = {"math", "np", "numpy", "pandas", "pd", "scipy", "sp", "special", "stats"}


# ---------------------------------------------------------------- symbols


@dataclass(frozen=True)
class Math:
    r"""
    A piece of mathematics, spelled twice; pieces are joined with ``+``.

    Parameters
    ----------
    unicode : str
        For terminals.
    latex : str
        For what sets mathematics; in the macros that MathJax and KaTeX know too.

    Examples
    --------
    >>> print(Math("σ", r"\sigma").of("friend"), Math("b", "b").at("ij", number=0))
    σ_friend b₀ᵢⱼ
    >>> print(Math.name("share_%").latex)
    \mathrm{share\_\%}
    """

    unicode: str
    latex: str

    def __add__(self, other: Math | str) -> Math:
        """Join two pieces; a string is the same in both spellings."""
        other = other if isinstance(other, Math) else Math(other, other)
        return Math(self.unicode + other.unicode, self.latex + other.latex)

    def __str__(self) -> str:
        """Give the Unicode spelling."""
        return self.unicode

    @classmethod
    def name(cls, text: str) -> Math:
        """Set a name from the data upright, whatever characters it has."""
        return cls(text, r"\mathrm{" + "".join(_LATEX.get(c, c) for c in text) + "}")

    def at(self, indices: str, *, number: int | None = None) -> Math:
        """Put indices below, after the number of a vector's element."""
        below = ("" if number is None else str(number)) + indices
        if not below:
            return self
        return self + Math("".join(_LOW.get(c, c) for c in below), f"_{{{below}}}")

    def of(self, *names: str) -> Math:
        """Put names below; with an underscore in Unicode, which has few such letters."""
        latex = ",".join(Math.name(n).latex for n in names)
        return self + Math("_" + ",".join(names), f"_{{{latex}}}")


def plain(code: str) -> str:
    """
    Spell a column as a reader knows it: without patsy's ``Q()``, ``C()`` and ``I()``.

    Parameters
    ----------
    code : str
        A factor of a term, or a column's name, such as ``"C(f, Sum)[S.a]"``.

    Returns
    -------
    str
        What was inside; ``I()`` keeps its parentheses.

    Examples
    --------
    >>> plain("Q('odd name')"), plain("C(f, Sum)[S.a]"), plain("I(x ** 2)"), plain("np.log(x)")
    ('odd name', 'f[S.a]', '(x ** 2)', 'np.log(x)')
    """
    called = code[:2]
    for end in range(len(code), 2, -1) if called in ("Q(", "C(", "I(") else ():
        try:
            call = ast.parse(code[:end].strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if not isinstance(call, ast.Call) or not call.args:
            continue
        inside, rest = call.args[0], code[end:]
        if called == "Q(" and isinstance(inside, ast.Constant):
            return str(inside.value) + rest
        text = plain(ast.unparse(inside))
        return f"({text}){rest}" if called == "I(" else text + rest
    return code


def split(name: str) -> list[str]:
    """
    Take the name of an interaction apart.

    Parameters
    ----------
    name : str
        Of a term or a column.

    Returns
    -------
    list of str
        Its factors; a colon in brackets or quotes separates nothing.

    Examples
    --------
    >>> split("x:C(f)[T.a:b]")
    ['x', 'C(f)[T.a:b]']
    """
    parts, depth, quote = [""], 0, ""
    for c in name:
        if quote or (c in "'\"" and depth):
            quote = "" if c == quote else quote or c
        else:
            depth += (c in "([{") - (c in ")]}")
        if c == ":" and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts if all(parts) else [name]


# ---------------------------------------------------------------- the formula, read


@dataclass(frozen=True)
class Factor:
    """
    A grouping factor, and where it stands among the others.

    Parameters
    ----------
    name : str
        As in the formula: ``"state:district"``.
    label : str
        Without the factors that it lies in: ``"district"``.
    index : str
        Its own letter; none for ``a:b`` beside ``a`` and ``b``, whose letters it has.
    indices : str
        The letters that number its levels, those of the outer factors first.
    outer : tuple of str
        Names of all factors that it is nested in, the outermost first.
    parents : tuple of str
        Those of them that it lies in directly.
    """

    name: str
    label: str
    index: str
    indices: str
    outer: tuple[str, ...]
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Effects:
    """
    The random effects of one term, in the centred reading.

    Parameters
    ----------
    term : RandomTerm
        The term.
    columns : tuple of str
        Names of the effects, as far as the formula tells them.
    factor : Factor
        What they vary with.
    letter : Math
        Their symbol, without indices.
    spread : Math
        Symbol of the standard deviation, or of the covariance matrix of several effects.
    centre : tuple of int
        Positions of the terms whose effects they scatter around; none for zero or the mean.
    carries_mean : bool
        Whether they scatter around the overall mean.
    enters : bool
        Whether they stand in the response's own mean: no other term scatters around them.
    """

    term: RandomTerm
    columns: tuple[str, ...]
    factor: Factor
    letter: Math
    spread: Math
    centre: tuple[int, ...]
    carries_mean: bool
    enters: bool

    @property
    def symbol(self) -> Math:
        """The effects of one level; bold if there are several."""
        bold = Math(self.letter.unicode, rf"\mathbf{{{self.letter.latex}}}")
        return (self.letter if len(self.columns) == 1 else bold).at(self.factor.indices)


@dataclass(frozen=True)
class Reading:
    """
    A formula in the centred reading: what the graph and the equations have in common.

    Parameters
    ----------
    formula : Formula
        The formula.
    fixed : tuple of str
        Names of the fixed terms.
    covariates : tuple of str
        Columns that the fixed and the random effects read.
    factors : tuple of Factor
        The outer ones first.
    effects : tuple of Effects
        One per random term, in the formula's order.
    index : str
        The letter that numbers the rows within the levels.
    indices : str
        All letters of a row.
    mean : Math or None
        Symbol of the overall mean, if a random term carries it.
    """

    formula: Formula
    fixed: tuple[str, ...]
    covariates: tuple[str, ...]
    factors: tuple[Factor, ...]
    effects: tuple[Effects, ...]
    index: str
    indices: str
    mean: Math | None

    @property
    def response(self) -> Math:
        """The response of one row."""
        return self.column(self.formula.response)

    @property
    def innermost(self) -> tuple[Factor, ...]:
        """The factors that rows lie in directly."""
        return tuple(f for f in self.factors if not any(f.name in g.outer for g in self.factors))

    def column(self, code: str) -> Math:
        """A column's value in one row."""
        return Math.name(plain(code)).at(self.indices)


def read(formula: str | Formula, nested: Mapping[str, str] | None = None) -> Reading:
    """
    Read a formula level by level.

    Parameters
    ----------
    formula : str or Formula
        Without ``.``, as only data say what it stands for.
    nested : mapping of str to str, optional
        Inner to outer grouping factor, where the data nest what the formula does not.

    Returns
    -------
    Reading
        Symbols, indices, and what each term's effects scatter around.

    Raises
    ------
    FormulaError
        If the formula cannot be parsed, or has a dot.
    ArgumentError
        If ``nested`` names something else than the formula's grouping factors, or a circle.

    Examples
    --------
    >>> reading = read("rating ~ 1 + (1 | friend)")
    >>> print(reading.effects[0].symbol, reading.mean, reading.effects[0].spread)
    Rᵢ R σ_friend
    """
    formula = parse(formula) if isinstance(formula, str) else formula
    fixed = tuple(t.name() for t in terms_of(formula.fixed))
    if "." in fixed:
        text = str(formula)
        at = text.index(" .") + 1
        advice = "Name the columns, or take the formula of a fit."
        raise FormulaError("only data tell what '.' stands for.", text, at, at + 1, advice)
    factors = _factors(formula, nested or {})
    covariates = _covariates(formula)
    names = {*covariates, *(plain(part) for t in formula.random for part in t.group)}
    mean = _mean_letter(formula, names)
    effects = _effects(formula, fixed, factors, mean, names)
    letters = "".join(dict.fromkeys(c for f in factors for c in f.indices))
    index = _INDICES[len(letters) % len(_INDICES)]
    carried = mean if any(e.carries_mean for e in effects) else None
    return Reading(formula, fixed, covariates, factors, effects, index, letters + index, carried)


def _factors(formula: Formula, nested: Mapping[str, str]) -> tuple[Factor, ...]:
    """Order the grouping factors, the outer ones first, and give them letters."""
    parts = {t.group_name: t.group for t in formula.random}
    outer = _outer(parts, nested)
    order: list[str] = []
    while len(order) < len(parts):
        order.append(next(g for g in parts if g not in order and outer[g] <= set(order)))
    letters: dict[str, str] = {}
    for part in (p for g in order for p in parts[g]):
        letters.setdefault(part, _INDICES[len(letters) % len(_INDICES)])
    inherited = {g: {p for h in outer[g] for p in parts[h]} for g in parts}
    labels = _labels(parts, inherited)
    found = []
    for g in order:
        own = "".join(letters[p] for p in parts[g] if p not in inherited[g])
        used = inherited[g].union(parts[g])
        indices = "".join(letter for part, letter in letters.items() if part in used)
        above = tuple(h for h in order if h in outer[g])
        parents = tuple(h for h in above if not any(h in outer[k] for k in above))
        found.append(Factor(g, labels[g], own, indices, above, parents))
    return tuple(found)


def _outer(parts: Mapping[str, tuple[str, ...]], nested: Mapping[str, str]) -> dict[str, set[str]]:
    """All factors that each one lies in: written in the formula, or found in the data."""
    _expect_groups("nested", (name for pair in nested.items() for name in pair), parts)
    outer = {g: {h for h in parts if set(parts[h]) < set(parts[g])} for g in parts}
    for inner, around in nested.items():
        outer[inner].add(around)
    for _ in parts:
        outer = {g: found.union(*(outer[h] for h in found)) for g, found in outer.items()}
    if circle := [g for g, found in outer.items() if g in found]:
        raise ArgumentError(f"nested is a circle: {' in '.join([*circle, circle[0]])}.")
    return outer


def _expect_groups(argument: str, names: Iterable[str], groups: Iterable[str]) -> None:
    groups = list(groups)
    for name in names:
        if name not in groups:
            known = f"grouping factors are: {', '.join(groups)}" if groups else "has no groups"
            hint = did_you_mean(name, groups)
            raise ArgumentError(f"{argument} names '{name}', but the formula's {known}.{hint}")


def _labels(
    parts: Mapping[str, tuple[str, ...]], inherited: Mapping[str, set[str]]
) -> dict[str, str]:
    """Names without the outer factors' parts, where that leaves something of its own."""
    short = {g: ":".join(plain(p) for p in parts[g] if p not in inherited[g]) for g in parts}
    taken = list(short.values())
    full = {g: ":".join(map(plain, mine)) for g, mine in parts.items()}
    return {g: s if s and taken.count(s) == 1 else full[g] for g, s in short.items()}


def _effects(
    formula: Formula,
    fixed: tuple[str, ...],
    factors: tuple[Factor, ...],
    mean: Math,
    names: set[str],
) -> tuple[Effects, ...]:
    """Centre each term, and name its effects and their spread."""
    by_name = {f.name: f for f in factors}
    mine = [by_name[t.group_name] for t in formula.random]
    columns = [tuple(c.name() for c in terms_of(t.effects)) for t in formula.random]
    centres = [_centre(i, mine, columns) for i in range(len(mine))]
    intercepts = INTERCEPT in fixed and all(c == (INTERCEPT,) for c in columns)
    carrier = centres.index(()) if intercepts and mine else None
    letters = _letters(mine, centres, carrier, mean, names)
    spreads: list[Math] = []
    for effects, factor in zip(columns, mine, strict=True):
        spread = _spread(effects, factor.label, alone=len(factors) == 1)
        while spread in spreads:
            spread = Math(spread.unicode + "′", f"{{{spread.latex}}}'")
        spreads.append(spread)
    return tuple(
        Effects(
            term=term,
            columns=columns[i],
            factor=mine[i],
            letter=letters[i],
            spread=spreads[i],
            centre=centres[i],
            carries_mean=i == carrier,
            enters=not any(i in centre for centre in centres),
        )
        for i, term in enumerate(formula.random)
    )


def _centre(i: int, factors: list[Factor], columns: list[tuple[str, ...]]) -> tuple[int, ...]:
    """Terms with the same effects on the nearest outer factors."""
    same = [
        k
        for k, factor in enumerate(factors)
        if factor.name in factors[i].outer and set(columns[k]) == set(columns[i])
    ]
    return tuple(k for k in same if not any(factors[k].name in factors[j].outer for j in same))


def _letters(
    factors: list[Factor],
    centres: list[tuple[int, ...]],
    carrier: int | None,
    mean: Math,
    names: set[str],
) -> dict[int, Math]:
    """Give each term its centre's letter, or one of its own that is no column's name."""
    free = cycle([Math(c, c) for c in _EFFECTS if c not in names] or [Math("b", "b")])
    letters: dict[int, Math] = {}
    for i in sorted(range(len(factors)), key=lambda i: len(factors[i].outer)):
        given = [mean] if i == carrier else [letters[k] for k in centres[i][:1]]
        taken = [letters[k] for k in letters if factors[k] == factors[i]]
        letters[i] = given[0] if given and given[0] not in taken else next(free)
    return letters


def _spread(columns: tuple[str, ...], label: str, *, alone: bool) -> Math:
    if len(columns) > 1:
        return Math("Σ", r"\Sigma").of(label)
    return sd_symbol(columns[0], label, scalar=True, alone=alone)


def sd_symbol(effect: str, label: str, *, scalar: bool, alone: bool) -> Math:
    """
    Symbol of the standard deviation of one effect.

    Parameters
    ----------
    effect : str
        Name of the effect.
    label : str
        Name of the grouping factor.
    scalar : bool
        Whether it is the only effect of its term.
    alone : bool
        Whether the model has only one grouping factor, which need not be named each time.

    Returns
    -------
    Math
        A sigma with as few names as tell it from the others.

    Examples
    --------
    >>> print(sd_symbol("Days", "Subject", scalar=False, alone=True))
    σ_Days
    """
    sigma = Math("σ", r"\sigma")
    if scalar and effect == INTERCEPT:
        return sigma.of(label)
    shown = ":".join(map(plain, split(effect)))
    return sigma.of(shown) if alone else sigma.of(label, shown)


def _mean_letter(formula: Formula, names: set[str]) -> Math:
    """The response's initial, as in R for ratings; mu where that would be misread."""
    name = formula.response
    initial = name[0].upper()
    ordinary = name.isidentifier() and len(name) > 1 and initial.isascii() and initial.isalpha()
    if ordinary and initial not in {"N", *names}:
        return Math(initial, initial)
    return Math("μ", r"\mu")


def _covariates(formula: Formula) -> tuple[str, ...]:
    """Columns that the effects read, in the order of their appearance."""
    texts = [formula.fixed, *(t.effects for t in formula.random)]
    codes = [f.name() for text in texts for term in terms_of(text) for f in term.factors]
    found = dict.fromkeys(n for c in codes for n in _columns(ast.parse(c.strip(), mode="eval")))
    return tuple(name for name in found if name != plain(formula.response))


def _columns(node: ast.AST) -> Iterator[str]:
    """Names in an expression that are columns, as far as the text tells."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called == "Q":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
            return
        if isinstance(node.func, ast.Attribute):
            yield from _columns(node.func)
        # Further arguments of C() are contrasts, and keywords of any function are settings.
        for part in node.args[:1] if called == "C" else node.args:
            yield from _columns(part)
    elif isinstance(node, ast.Attribute):
        yield from (n for n in _columns(node.value) if n not in _MODULES)
    elif isinstance(node, ast.Name):
        yield node.id
    else:
        for child in ast.iter_child_nodes(node):
            yield from _columns(child)


# ---------------------------------------------------------------- the graph


@dataclass(frozen=True)
class Node:
    """
    A variable or a parameter of the model.

    Parameters
    ----------
    name : str
        Its name in the graph, of which there is no other.
    kind : {"parameter", "random", "response", "covariate"}
        Random effects and the response are modelled; the response and covariates observed.
    label : str
        Its symbol in Unicode.
    latex : str
        The same in LaTeX.
    plate : str or None
        The innermost plate that it stands in; none for parameters.
    """

    name: str
    kind: Kind
    label: str
    latex: str
    plate: str | None


@dataclass(frozen=True)
class Edge:
    """
    A dependence: the target's distribution is given in terms of the source.

    Parameters
    ----------
    source, target : str
        Names of nodes.
    """

    source: str
    target: str


@dataclass(frozen=True)
class Plate:
    """
    What is there once for each level of a grouping factor, or for each row.

    Parameters
    ----------
    name : str
        The grouping factor as in the formula, or ``"rows"``.
    label : str
        The factor without those that it lies in.
    index : str
        The letter that numbers it.
    count : int or None
        How many levels or rows there are, in all.
    parents : tuple of str
        Plates that it lies in directly; more than one where factors are crossed.
    """

    name: str
    label: str
    index: str
    count: int | None
    parents: tuple[str, ...]

    @property
    def title(self) -> str:
        """Label, index and count, as written in the plate's corner."""
        count = "" if self.count is None else f" ({self.count:,})"
        return f"{self.label} {self.index}".strip() + count


@dataclass(frozen=True)
class Graph:
    """
    A model as a directed acyclic graph with plates.

    Parameters
    ----------
    nodes : tuple of Node
        Parents before children.
    edges : tuple of Edge
        The dependences.
    plates : tuple of Plate
        The outer ones first, the rows last.
    tree : bool
        Whether the levels form a tree: each plate lies in at most one other directly.
        Effects of one level count as one variable.
    reason : str
        Why, as a sentence.

    Examples
    --------
    >>> print(graph("y ~ hours + (1 | school/room) + (1 | ses)"))
    Not a tree: rows belong to levels of room (in school) and of ses, which are crossed.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    plates: tuple[Plate, ...]
    tree: bool
    reason: str

    def around(self, plate: str | None) -> tuple[str, ...]:
        """Names of a plate and of all that it lies in, the outer ones first."""
        found = {plate}
        for p in reversed(self.plates):
            found |= set(p.parents) if p.name in found else set()
        return tuple(p.name for p in self.plates if p.name in found)

    def describe(self) -> str:
        """Say whether the levels form a tree, and why."""
        return self.reason

    def __str__(self) -> str:
        """Say whether the levels form a tree, and why."""
        return self.reason

    def to_dot(self) -> str:
        """Write the graph for Graphviz; a plate in several others is drawn in the first."""
        return _dot(self)

    def to_mermaid(self) -> str:
        """Write the graph as a Mermaid flowchart, as notebooks and Markdown pages show it."""
        return _mermaid(self)

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.to_mermaid()}```\n\n{self.reason}\n"


def graph(
    formula: str | Formula,
    counts: Mapping[str, int] | None = None,
    *,
    rows: int | None = None,
    nested: Mapping[str, str] | None = None,
) -> Graph:
    """
    Give the graph of a formula's model.

    Parameters
    ----------
    formula : str or Formula
        Such as ``"y ~ hours + (1 | school/room) + (1 | ses)"``.
    counts : mapping of str to int, optional
        Number of levels by grouping factor, as :attr:`Results.ngroups` gives it.
    rows : int, optional
        Number of rows.
    nested : mapping of str to str, optional
        Inner to outer grouping factor, where the data nest what the formula writes as
        ``(1 | batch) + (1 | sample)``. Without it these are taken for crossed.

    Returns
    -------
    Graph
        In the centred reading: the effects of an inner level depend on those of the outer one
        that have the same columns. So for nested random intercepts the modelled variables are
        a tree; for crossed ones the response has several modelled parents, and they are not.

    Raises
    ------
    FormulaError
        If the formula cannot be parsed, or has a dot.
    ArgumentError
        If ``counts`` or ``nested`` names something else than the formula's grouping factors.

    Examples
    --------
    >>> g = graph("rating ~ 1 + (1 | friend)", {"friend": 30}, rows=389)
    >>> g.tree, [p.title for p in g.plates]
    (True, ['friend i (30)', 'rows j (389)'])
    >>> [(e.source, e.target) for e in g.edges]
    [('mean', '(1 | friend)'), ('sd (1 | friend)', '(1 | friend)'),
     ('(1 | friend)', 'rating'), ('sigma', 'rating')]
    """
    reading = read(formula, nested)
    plates = _plates(reading, counts or {}, rows)
    nodes, edges = _nodes_and_edges(reading, plates[-1].name)
    tree = all(len(p.parents) < 2 for p in plates)
    return Graph(nodes, edges, plates, tree, _reason(reading))


def _plates(reading: Reading, counts: Mapping[str, int], rows: int | None) -> tuple[Plate, ...]:
    _expect_groups("counts", counts, (f.name for f in reading.factors))
    for what, count in {**counts, "rows": rows}.items():
        if count is not None and operator.index(count) < 1:
            raise ArgumentError(f"the number of {what} is {count}, but must be at least 1.")
    found = [
        Plate(f.name, f.label, f.index, counts.get(f.name), f.parents) for f in reading.factors
    ]
    name = _unused("rows", {f.name for f in reading.factors})
    inner = tuple(f.name for f in reading.innermost)
    return (*found, Plate(name, "rows", reading.index, rows, inner))


def _nodes_and_edges(reading: Reading, rows: str) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Parameters, the effects that they govern, and last what the response depends on."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []

    def add(name: str, kind: Kind, label: Math, plate: str | None) -> str:
        name = _unused(name, nodes)
        nodes[name] = Node(name, kind, label.unicode, label.latex, plate)
        return name

    above: list[str] = []
    terms = {
        i: add(str(e.term), "random", e.symbol, e.factor.name)
        for i, e in enumerate(reading.effects)
    }
    for i, e in enumerate(reading.effects):
        if e.carries_mean and reading.mean is not None:
            edges.append(Edge(add("mean", "parameter", reading.mean, None), terms[i]))
        what = "sd" if len(e.columns) == 1 else "cov"
        edges.append(Edge(add(f"{what} {e.term}", "parameter", e.spread, None), terms[i]))
        edges += [Edge(terms[k], terms[i]) for k in e.centre]
        above += [terms[i]] if e.enters else []
    if label := _coefficients(reading):
        above.append(add("beta", "parameter", label, None))
    above += [add(c, "covariate", reading.column(f"Q({c!r})"), rows) for c in reading.covariates]
    above.append(add("sigma", "parameter", Math("σ", r"\sigma"), None))
    response = add(plain(reading.formula.response), "response", reading.response, rows)
    edges += [Edge(name, response) for name in above]
    return _sorted(nodes, edges), tuple(edges)


def _sorted(nodes: Mapping[str, Node], edges: list[Edge]) -> tuple[Node, ...]:
    """Parents before children, else in the order given."""
    order: dict[str, Node] = {}
    while len(order) < len(nodes):
        waiting = {e.target for e in edges if e.source not in order}
        order |= {n: node for n, node in nodes.items() if n not in waiting}
    return tuple(order.values())


def _coefficients(reading: Reading) -> Math | None:
    """Symbol of the fixed coefficients; none if a random term carries the only one."""
    free = [t for t in reading.fixed if t != INTERCEPT or reading.mean is None]
    beta = Math("β", r"\beta")
    if len(free) == 1:
        return beta.at("", number=0 if free[0] == INTERCEPT else 1)
    return Math("β", r"\boldsymbol{\beta}") if free else None


def _unused(name: str, taken: Iterable[str]) -> str:
    while name in set(taken):
        name += "′"
    return name


def _reason(reading: Reading) -> str:
    """Whether the levels form a tree, and why."""
    by_name = {f.name: f for f in reading.factors}
    meeting = [("rows", reading.innermost)] + [
        (f"levels of {f.label}", tuple(by_name[p] for p in f.parents))
        for f in reversed(reading.factors)
    ]
    for what, parents in meeting:
        if len(parents) > 1:
            listed = [_with_outer(f, by_name) for f in parents]
            told = f"{', of '.join(listed[:-1])} and of {listed[-1]}"
            return f"Not a tree: {what} belong to levels of {told}, which are crossed."
    if not reading.factors:
        return "A tree, of one level: there are no groups, and rows depend on no other."
    labels = [f.label for f in reversed(reading.factors)]
    return f"A tree: each row belongs to one level of {', each of these to one of '.join(labels)}."


def _with_outer(factor: Factor, by_name: Mapping[str, Factor]) -> str:
    outer = ", ".join(f"in {by_name[g].label}" for g in reversed(factor.outer))
    return f"{factor.label} ({outer})" if outer else factor.label


# ---------------------------------------------------------------- the graph as text


def _dot(graph: Graph) -> str:
    ids = _ids(graph)
    styles = {
        "parameter": "shape=plaintext",
        "random": "shape=circle",
        "response": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
        "covariate": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
    }

    def node(n: Node) -> list[str]:
        return [f"{ids[n.name]} [label={_dot_text(n.label)}, {styles[n.kind]}];"]

    def box(number: int, title: str, inside: list[str]) -> list[str]:
        head = [f"subgraph cluster_{number} {{", f"  label={_dot_text(title)};"]
        return [*head, '  style="rounded";', *(f"  {line}" for line in inside), "}"]

    lines = [*_in_boxes(graph, node, box)]
    lines += [f"{ids[e.source]} -> {ids[e.target]};" for e in graph.edges]
    return "digraph model {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _mermaid(graph: Graph) -> str:
    ids = _ids(graph)
    shapes = {
        "parameter": ("[", "]:::parameter"),
        "random": ("((", "))"),
        "response": ("((", ")):::observed"),
        "covariate": ("((", ")):::observed"),
    }

    def node(n: Node) -> list[str]:
        left, right = shapes[n.kind]
        return [f"{ids[n.name]}{left}{_mermaid_text(n.label)}{right}"]

    def box(number: int, title: str, inside: list[str]) -> list[str]:
        head = f"subgraph p{number}[{_mermaid_text(title)}]"
        return [head, *(f"  {line}" for line in inside), "end"]

    lines = _in_boxes(graph, node, box)
    lines += [f"{ids[e.source]} --> {ids[e.target]}" for e in graph.edges]
    lines += ["classDef observed fill:#D9D9D9,stroke:#333333,color:#000000"]
    lines += ["classDef parameter fill:none,stroke:none"]
    return "flowchart TD\n" + "".join(f"  {line}\n" for line in lines)


def _ids(graph: Graph) -> dict[str, str]:
    """Names may hold any character; these are safe in every language of graphs."""
    return {n.name: f"n{i}" for i, n in enumerate(graph.nodes)}


def _in_boxes(
    graph: Graph,
    node: Callable[[Node], list[str]],
    box: Callable[[int, str, list[str]], list[str]],
) -> list[str]:
    """
    Write plates as boxes within boxes, which is all that these languages have.

    A plate that lies in several others is written in the deepest, and names the rest.
    """
    home = {
        p.name: max(p.parents, key=lambda g: len(graph.around(g)), default=None)
        for p in graph.plates
    }
    titles = {p.name: p.title for p in graph.plates}

    def inside(plate: str | None) -> list[str]:
        lines = [line for n in graph.nodes if n.plate == plate for line in node(n)]
        for number, p in enumerate(graph.plates):
            if home[p.name] == plate:
                also = [q.label for q in graph.plates if q.name in p.parents and q.name != plate]
                title = ", also in ".join([titles[p.name], *also])
                lines += box(number, title, inside(p.name))
        return lines

    return inside(None)


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid_text(text: str) -> str:
    """Quote; signs that Mermaid or Markdown would read are written as numbers."""
    shown = (c if c.isalnum() or not c.isascii() or c in " _(),=" else f"#{ord(c)};" for c in text)
    return f'"{"".join(shown)}"'
