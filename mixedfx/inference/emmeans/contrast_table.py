"""Table of contrasts, which says how they are adjusted for multiplicity, and for how many."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.inference.emmeans.display import formatted_table
from mixedfx.inference.emmeans.p_adjust import Adjust

# The adjustment of the intervals, where it is not that of the p-values.
_OF_INTERVALS = {"holm": "bonferroni", "fdr": "none"}


class _AnyDataFrame(type):
    """Every DataFrame is an instance, so that pandas compares the class with plain ones."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, pd.DataFrame)


class ContrastTable(pd.DataFrame, metaclass=_AnyDataFrame):
    """
    A DataFrame that is printed with its adjustment; what is computed from it is a plain one.

    ``attrs`` has ``adjust``, ``intervals`` (the adjustment of these), ``n_contrasts`` and
    ``n_means`` of each family, and the ``caption``.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        """Text of the whole width of the table, as of means, and its caption."""
        rows = pd.get_option("display.max_rows")
        text = formatted_table(self).to_string(index=False, max_rows=rows)
        return f"{text}\n\n{self.attrs.get('caption', '')}".rstrip()

    def __str__(self) -> str:
        """Text of the table, and its caption."""
        return repr(self)

    def _repr_html_(self) -> str:
        caption = html.escape(str(self.attrs.get("caption", "")))
        shown = formatted_table(self).to_html(
            index=False, border=0, max_rows=pd.get_option("display.max_rows")
        )
        return html_block(f"{shown}<p>{caption}</p>")


def contrast_table(
    families: Sequence[pd.DataFrame], sizes: Sequence[int], adjust: Adjust, *, remark: str = ""
) -> ContrastTable:
    """Table of families of contrasts, each of so many means; a remark precedes the caption."""
    table = ContrastTable(pd.concat(families, ignore_index=True))
    counts = [len(family) for family in families]
    intervals = _OF_INTERVALS.get(adjust, adjust)
    table.attrs = {
        "adjust": adjust,
        "intervals": intervals,
        "n_contrasts": counts,
        "n_means": list(sizes),
        "caption": f"{remark} {_caption(adjust, intervals, counts, sizes)}".strip(),
    }
    return table


def _caption(adjust: str, intervals: str, counts: Sequence[int], sizes: Sequence[int]) -> str:
    """Sentence on the adjustment, and the number of contrasts in each family."""
    numbers = " or ".join(str(count) for count in sorted(set(counts)))
    plural = "" if numbers == "1" else "s"
    family = f"{numbers} contrast{plural}"
    if adjust == "tukey":
        family += f", all pairs of {' or '.join(str(size) for size in sorted(set(sizes)))} means"
    if len(counts) > 1:
        family += f", in each of {len(counts)} families"
    if adjust == "none":
        return f"Adjustment: none, of {family}."
    own = "" if intervals == adjust else f" (intervals: {intervals})"
    return f"Adjustment: {adjust}{own}, for {family}."
