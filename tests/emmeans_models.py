"""Models of which R's emmeans has computed slopes, contrasts and joint tests."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
from reference_models import FOLDER

import mixedfx as mfx

MADE_BY_R = json.loads((FOLDER / "marginal_effects.json").read_text("utf-8"))
MODELS = {
    "sleep": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleep2": ("sleepstudy", "Reaction ~ Days + I(Days**2) + (Days | Subject)"),
    "cake": ("cake", "angle ~ recipe * (temp + I(temp**2)) + (1 | recipe:replicate)"),
    "cakelin": ("cake", "angle ~ recipe * temp + (1 | recipe:replicate)"),
    "cakelog": ("cake", "np.log(angle) ~ recipe * temp + (1 | recipe:replicate)"),
    "cakesqrt": ("cake", "np.sqrt(angle) ~ recipe + temp + (1 | recipe:replicate)"),
    "pup": ("RatPupWeight", "weight ~ Treatment * sex + Lsize + (1 | Litter)"),
    "pupx": ("RatPupWeight", "weight ~ Treatment * np.log(Lsize) + sex + (1 | Litter)"),
}


@cache
def fit_named(name):
    file, formula = MODELS[name]
    return mfx.lmer(formula, pd.read_csv(FOLDER / "data" / f"{file}.csv"))


@cache
def cbpp():
    data = mfx.datasets.load("cbpp")
    data["z"] = np.arange(1, 57) % 7
    return mfx.glmer(
        "cbind(incidence, size - incidence) ~ period * z + (1 | herd)", data, "binomial"
    )
