"""Sampling sleepstudy with Bambi: run by a Python that has it, told the file and the draws.

Prints one line of JSON: the seconds of a second fit, when everything is compiled, those of them
that the sampler says it took, and the least bulk effective sample size among the parameters that
both packages have.
"""

from __future__ import annotations

import json
import sys
import time

import arviz
import bambi
import pandas as pd

NAMES = ["Intercept", "Days", "sigma", "1|Subject_sigma", "Days|Subject_sigma"]


def main(path: str, draws: int, chains: int) -> None:
    table = pd.read_csv(path)
    table["Subject"] = table["Subject"].astype(str)
    # The effects of a group are uncorrelated in Bambi.
    model = bambi.Model("Reaction ~ Days + (Days | Subject)", table)
    model.build()
    for seed in (1, 2):
        began = time.perf_counter()
        found = model.fit(draws=draws, chains=chains, progressbar=False, random_seed=seed)
        seconds = time.perf_counter() - began
    ess = arviz.ess(found, var_names=NAMES)
    told = {
        "seconds": seconds,
        "sampling": float(found.posterior.attrs.get("sampling_time", seconds)),
        "ess": min(float(ess[name]) for name in NAMES),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
