"""Many draws, in this process or by several workers, with a progress bar.

Each draw has a generator of its own, so the draws do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

import numpy as np

from mixedfx._progress import DELAY
from mixedfx._workers import Workers
from mixedfx.inference.bootstrap.refit import Draw, Failure, RefitModel, refit_draw

# Draws in a batch: enough to pay for sending the model to a worker, few enough that all workers
# finish together and an interrupt loses little.
_MAX_BATCH_SIZE, _BATCHES_PER_WORKER = 50, 8


def iter_batches(
    model: RefitModel, rngs: list[np.random.Generator], workers: Workers
) -> Generator[list[Draw | Failure], None, None]:
    """Yield batches of draws, in any order."""
    size = min(max(len(rngs) // (_BATCHES_PER_WORKER * workers.count), 1), _MAX_BATCH_SIZE)
    if workers.count == 1:
        size = 1  # each draw advances the progress bar
    batches = [(start, rngs[start : start + size]) for start in range(0, len(rngs), size)]
    return workers.run(_refit_batch, model, batches)


def _refit_batch(
    model: RefitModel, batch: tuple[int, list[np.random.Generator]]
) -> list[Draw | Failure]:
    """Make consecutive draws."""
    start, rngs = batch
    return [refit_draw(model, start + i, rng) for i, rng in enumerate(rngs)]


def collect_draws(
    batches: Generator[list[Draw | Failure], None, None], advance: Callable[[int], object]
) -> tuple[list[Draw | Failure], str]:
    """Collect draws until the last, a keyboard interrupt or the end of a process; say which."""
    draws: list[Draw | Failure] = []
    try:
        for batch in batches:
            draws += batch
            advance(len(batch))
    except KeyboardInterrupt:
        batches.close()
        return draws, "interrupted"
    except BrokenExecutor:
        batches.close()
        return draws, "a worker process was killed, as it is when memory is short,"
    return draws, ""


@contextmanager
def progress_bar(n: int, progress: bool) -> Iterator[Callable[[int], object]]:
    """Yield the function that advances a progress bar."""
    if not progress:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n, desc="bootstrap", unit="draw", delay=DELAY) as bar:
        yield bar.update
