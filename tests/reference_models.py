"""The reference models of R: their data as R read it, and their names turned into ours.

A reference names things as lme4 does: ``condB``, ``cask:batch`` with levels ``a:A``, terms by
decreasing number of levels. Everything here only reads and renames; no expected number is
computed from another.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import EngineRefusal, SingularFitWarning

FOLDER = Path(__file__).parent / "reference"
ENGINES = ("auto", "profiled", "statsmodels")

Group = tuple[str, ...]  # the factors of a grouping factor, sorted: an identity without an order


def group_key(label: str) -> Group:
    """Identify a grouping factor, however its factors are ordered and bracketed."""
    return tuple(sorted(re.sub(r"[()]", "", label).split(":")))


@dataclass(frozen=True)
class Reference:
    """One reference model, its numbers by our names."""

    record: dict[str, Any]

    def __getitem__(self, field: str) -> Any:
        return self.record[field]

    @property
    def fixed_names(self) -> list[str]:
        return [row["name_py"] for row in self["fixef"]]

    @property
    def fixed(self) -> pd.DataFrame:
        """Coefficients by patsy's names: estimate, se, t and the rest."""
        return pd.DataFrame(self["fixef"]).set_index("name_py")

    @property
    def vcov(self) -> pd.DataFrame:
        return pd.DataFrame(self["vcov"], self.fixed_names, self.fixed_names)

    @cached_property
    def effect_names(self) -> dict[tuple[str, str], str]:
        """From a group's label and R's name of an effect to patsy's name."""
        return {
            (group, r): py
            for group, table in self["ranef"].items()
            for r, py in zip(table["columns"], table["columns_py"], strict=True)
        }

    @cached_property
    def terms(self) -> list[tuple[Group, list[str]]]:
        """Group and effects of each of lme4's terms, in the order of its theta."""
        found: dict[int, tuple[Group, list[str]]] = {}
        for row in self["varcorr"]:
            if row["term"] is not None and row["var2"] is None:
                _, effects = found.setdefault(row["term"], (group_key(row["group"]), []))
                effects.append(self.effect_names[row["group"], row["var1"]])
        return [found[t] for t in sorted(found)]

    def theta(self, values: list[float], fit: mfx.Results) -> np.ndarray:
        """Put a theta of lme4 (lower triangles by columns, its terms) in a fit's order."""
        places = [
            (group, effects[row], effects[col])
            for group, effects in self.terms
            for col in range(len(effects))
            for row in range(col, len(effects))
        ]
        by_place = dict(zip(places, values, strict=True))
        spec, parametrization = fit.model.spec, fit.model.crossprod.parametrization
        return np.array(
            [
                by_place[
                    group_key(random_term.group),
                    random_term.effect_names[row],
                    random_term.effect_names[col],
                ]
                for random_term, entries in zip(
                    spec.random_terms, parametrization.coordinates.terms, strict=True
                )
                for row, col in zip(entries.rows, entries.cols, strict=True)
            ]
        )

    @property
    def deviations(self) -> dict[tuple[Group, str], float]:
        """Standard deviation of each effect, by group and effect."""
        return {
            (group_key(row["group"]), self.effect_names[row["group"], row["var1"]]): row["sdcor"]
            for row in self["varcorr"]
            if row["group"] and not row["var2"]
        }

    @property
    def correlations(self) -> dict[tuple[Group, frozenset[str]], float]:
        """Correlation of each pair of effects, by group and the two effects."""
        return {
            (
                group_key(row["group"]),
                frozenset(self.effect_names[row["group"], row[v]] for v in ("var1", "var2")),
            ): row["sdcor"]
            for row in self["varcorr"]
            if row["var2"]
        }

    @property
    def level_counts(self) -> dict[Group, int]:
        return {group_key(label): count for label, count in self["ngrps"].items()}

    def level_table(self, field: str, label: str, group: str) -> pd.DataFrame:
        """``ranef`` or ``ranef_cond_sd`` of one group, its levels spelled as in our ``group``."""
        table = self[field][label]
        theirs, ours = re.sub(r"[()]", "", label).split(":"), group.split(":")
        order = [theirs.index(factor) for factor in ours]

        def respell(level: str) -> str:
            parts = level.split(":", len(order) - 1)
            return ":".join(parts[i] for i in order)

        index = [respell(level) for level in table["levels"]]
        return pd.DataFrame(table["values"], index=index, columns=table["columns_py"])

    @cached_property
    def data(self) -> pd.DataFrame:
        return typed(_read(self["data"]), self["factors"])

    @cached_property
    def new_data(self) -> pd.DataFrame:
        return pd.DataFrame(self["predict_new"]["rows"])

    @property
    def beyond_mixedlm(self) -> str | None:
        """Word of the reason why MixedLM cannot fit the model, read from the reference alone."""
        groups = [set(group) for group, _ in self.terms]
        wide = [set(group) for group, effects in self._correlated]
        contains_all = [top for top in groups if all(top <= other for other in groups)]
        if self["weights"]:
            return "weights"
        if any(top not in contains_all for top in wide):
            return "correlated"
        if len(wide) > 1:
            return "one correlated term"
        if not contains_all and self["nobs"] ** 2 * 8 > 4e9:  # more than 4 GB a matrix
            return "GB"
        return "singular" if self["lme4_isSingular"] else None

    @property
    def _correlated(self) -> list[tuple[Group, list[str]]]:
        terms = {row["term"] for row in self["varcorr"] if row["var2"]}
        return [term for t, term in enumerate(self.terms) if t in terms]


def records(folder: str) -> dict[str, dict[str, Any]]:
    """Records of a folder of reference models, by name."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((FOLDER / folder).glob("*.json")))
    return {record["id"]: record for record in map(json.loads, texts)}


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / "data" / name)


def typed(table: pd.DataFrame, factors: dict[str, list[str]]) -> pd.DataFrame:
    """Make the factors categorical, with R's order of levels."""
    text = {name: table[name].map(_as_label, na_action="ignore") for name in factors}
    return table.assign(
        **{name: pd.Categorical(text[name], categories=levels) for name, levels in factors.items()}
    )


def _as_label(value: object) -> str:
    return str(value)


REFERENCES = {
    name: Reference(record)
    for name, record in records("models").items()
    if record["engine"].startswith("lme4") and record["engine"].endswith(" lmer")
}


def tiered(names: Iterable[str]) -> list:
    """Reference models to parametrise by: in the default tier each by REML or ML, in turn.

    Those of 73,421 rows are in the full tier.
    """
    return but_for(names, in_turn(REFERENCES))


def in_turn(names: Iterable[str]) -> list[str]:
    """Names of the models but the largest, by REML and by ML in turn."""
    models = sorted({name.split("__")[0] for name in names})
    small = [model for model in models if not model.startswith("insteval")]
    return [f"{model}__{('reml', 'ml')[i % 2]}" for i, model in enumerate(small)]


@cache
def fit_or_refusal(name: str, engine: str) -> mfx.Results | EngineRefusal:
    """Fit a reference model once per engine."""
    reference = REFERENCES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        try:
            return mfx.lmer(
                reference["formula_py"],
                reference.data,
                reml=reference["REML"],
                weights=reference["weights"],
                offset=reference["offset"],
                engine=engine,
            )
        except EngineRefusal as refusal:
            return refusal


def fit_of(name: str, engine: str) -> mfx.Results:
    """Fit a reference model that the engine can fit."""
    result = fit_or_refusal(name, engine)
    if isinstance(result, EngineRefusal):
        raise result
    return result
