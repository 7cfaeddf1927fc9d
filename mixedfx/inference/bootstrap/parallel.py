"""Many draws, in this process or in several, with a progress bar.

Each draw has a generator of its own, so the draws do not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

import numpy as np

from mixedfx.inference.bootstrap.refit import Draw, Failure, RefitModel, refit_draw
from mixedfx.linalg.blas_threads import single_threaded_blas

# Draws in a batch: enough to pay for sending the model to a worker, few enough that all workers
# finish together and an interrupt loses little.
_MAX_BATCH_SIZE, _BATCHES_PER_WORKER = 50, 8


def iter_batches(
    model: RefitModel, rngs: list[np.random.Generator], n_jobs: int
) -> Generator[list[Draw | Failure], None, None]:
    """Yield batches of draws, in any order."""
    n_workers = 1
    if n_jobs != 1:
        from joblib import Parallel, delayed, effective_n_jobs

        n_workers = effective_n_jobs(n_jobs)
    if n_workers == 1:
        for number, rng in enumerate(rngs):
            yield [refit_draw(model, number, rng)]
        return
    size = min(max(len(rngs) // (_BATCHES_PER_WORKER * n_workers), 1), _MAX_BATCH_SIZE)
    starts = range(0, len(rngs), size)
    pool = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    # An interrupt cancels tasks, of which joblib would warn.
    pool._warn_exit_early = lambda: None
    yield from pool(
        delayed(_refit_batch)(model, start, rngs[start : start + size]) for start in starts
    )


def _refit_batch(
    model: RefitModel, start: int, rngs: list[np.random.Generator]
) -> list[Draw | Failure]:
    """Make consecutive draws in a worker process, which has one core."""
    with single_threaded_blas(0):
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

    with tqdm(total=n, desc="bootstrap", unit="draw") as bar:
        yield bar.update
