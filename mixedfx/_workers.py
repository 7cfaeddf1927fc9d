"""Independent tasks: one after the other, in processes, or by the workers of a cluster.

What computes them is chosen by the caller of the package: ``n_jobs=`` (joblib) or ``client=``, a
client of Dask or any executor of :mod:`concurrent.futures`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mixedfx.errors import ArgumentError, brief, check_count
from mixedfx.linalg.blas_threads import single_threaded_blas

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """What computes independent tasks: this process, processes of its own, or a cluster's."""

    n_jobs: int = 1
    client: Any = None

    def __post_init__(self) -> None:
        """Check the arguments, by the names that the caller knows."""
        processes = "a number of processes, or -1 for one per core"
        if not check_count("n_jobs", self.n_jobs, -1, most=10_000, what=processes):
            raise ArgumentError(f"n_jobs=0 must be {processes}.")
        client = self.client
        if client is None:
            return
        if self.n_jobs != 1:
            raise ArgumentError(
                f"n_jobs={self.n_jobs} and client= both say where to compute: leave one."
            )
        if isinstance(client, type) or not (
            isinstance(client, Executor) or hasattr(client, "get_executor")
        ):
            raise ArgumentError(
                f"client={brief(client)} must be a dask.distributed.Client or an Executor of "
                "concurrent.futures, such as ProcessPoolExecutor()."
            )

    @property
    def count(self) -> int:
        """Number of tasks that are computed at the same time."""
        if self.client is None and self.n_jobs == 1:
            return 1
        if self.client is None:
            from joblib import effective_n_jobs

            return int(effective_n_jobs(self.n_jobs))
        if hasattr(self.client, "nthreads"):
            return max(int(sum(self.client.nthreads().values())), 1)
        # Executors do not say; those of the standard library keep it here.
        return int(getattr(self.client, "_max_workers", None) or os.cpu_count() or 1)

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """
        Yield ``function(shared, task)`` of each task, in any order where several compute.

        Closing the generator cancels what has not started. BrokenExecutor: a worker ended, as it
        does when memory is short, and its task could not be had elsewhere.
        """
        if self.client is not None:
            yield from _by_client(function, shared, tasks, self.client)
        elif self.count == 1:
            for task in tasks:
                yield function(shared, task)
        else:
            yield from _by_joblib(function, shared, tasks, self.n_jobs)


THIS_PROCESS = Workers()


def _by_joblib(
    function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task], n_jobs: int
) -> Iterator[Result]:
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    # An interrupt cancels tasks, of which joblib would warn.
    pool._warn_exit_early = lambda: None
    yield from pool(delayed(_with_one_core)(function, shared, task) for task in tasks)


def _by_client(
    function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task], client: Any
) -> Iterator[Result]:
    """Submit the tasks to an executor; Dask is sent what they share once."""
    executor, sent = client, shared
    if not isinstance(client, Executor):
        sent, executor = _sent_once(shared, client), client.get_executor(pure=False)
    futures = [executor.submit(_with_one_core, function, sent, task) for task in tasks]
    try:
        for future in as_completed(futures):
            yield _result(future)
    finally:
        for future in futures:
            future.cancel()


def _sent_once(shared: Any, client: Any) -> Any:
    """
    What tasks share, as the future of a task of Dask.

    Scattered data is gone with the last worker that has it, and the tasks with it; a result is
    made again.
    """
    from dask import config

    # That it should be scattered is what Dask would warn of.
    with config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        return client.submit(partial(_itself, shared), pure=False)


def _itself(shared: Shared) -> Shared:
    return shared


def _result(future: Future[Result]) -> Result:
    """Result of a task; what ended its worker is a BrokenExecutor, whoever ran it."""
    try:
        return future.result()
    except CancelledError:
        raise BrokenExecutor("the client was closed") from None
    except ModuleNotFoundError as error:
        if error.name != "mixedfx":
            raise
        raise ArgumentError(
            f"a worker of client= cannot import mixedfx ({error}): install the same version there."
        ) from error
    except Exception as error:
        # Raised by Dask after a task has ended several workers.
        if type(error).__name__ == "KilledWorker":
            raise BrokenExecutor(str(error)) from error
        raise


def _with_one_core(
    function: Callable[[Shared, Task], Result], shared: Shared, task: Task
) -> Result:
    """Compute one task in a worker, which has one core."""
    with single_threaded_blas(0):
        return function(shared, task)
