"""Workers: the same results in this process, in processes, in threads and by a Dask cluster."""

import os
import signal
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx._workers import Workers
from mixedfx.errors import ArgumentError, MixedfxWarning

NAMES = ["Days", "sd(Days | Subject)", "sigma"]


@pytest.fixture(scope="module")
def fit():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))


@pytest.mark.full
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_makes_the_same_draws_and_profiles(fit, kind):
    with kind(2) as executor:
        draws = fit.bootstrap(20, rng=1, progress=False, client=executor).draws
        profile = fit.profile(NAMES, client=executor)
        limits = fit.conf_int(method="profile", client=executor)
    pd.testing.assert_frame_equal(draws, fit.bootstrap(20, rng=1, progress=False).draws)
    pd.testing.assert_frame_equal(profile, fit.profile(NAMES))
    pd.testing.assert_frame_equal(limits, fit.conf_int(method="profile"))


def test_threads_of_an_executor_make_the_same_draws(fit):
    with ThreadPoolExecutor(2) as executor:
        limits = fit.conf_int(method="bootstrap", n=4, rng=1, client=executor)
    pd.testing.assert_frame_equal(limits, fit.conf_int(method="bootstrap", n=4, rng=1))


@pytest.mark.full
def test_a_cluster_makes_the_same_draws_and_profiles(fit, client):
    draws = fit.bootstrap(20, rng=1, progress=False, client=client).draws
    pd.testing.assert_frame_equal(draws, fit.bootstrap(20, rng=1, progress=False).draws)
    pd.testing.assert_frame_equal(fit.profile(NAMES, client=client), fit.profile(NAMES))
    own = fit.bootstrap(8, rng=1, progress=False, client=client, statistic=lambda fit: fit.sigma)
    pd.testing.assert_series_equal(own.draws["statistic"], draws["sigma"][:8], check_names=False)


def _killing_once(path: str, task: int) -> int:
    """A task whose worker is killed at its first attempt."""
    marker = Path(path)
    if task == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task**2


def _killing_all_once(shared: tuple[str, list[int]], task: int) -> int:
    """A task that ends all workers, and what they hold, at its first attempt."""
    path, pids = shared
    if task == 3 and not Path(path).exists():
        Path(path).touch()
        for pid in sorted(pids, key=os.getpid().__eq__):  # its own last
            os.kill(pid, signal.SIGKILL)
    return task**2


def _killing_always(_: None, task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return task


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_a_killed_worker_of_a_cluster_is_retried(client, tmp_path):
    marker = tmp_path / "killed"
    found = sorted(Workers(client=client).run(_killing_once, str(marker), range(6)))
    assert marker.exists()
    assert found == [task**2 for task in range(6)]


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_what_tasks_share_is_sent_again_where_it_ended_with_its_workers(client, tmp_path):
    client.wait_for_workers(2, timeout=60)
    shared = (str(tmp_path / "killed"), list(client.run(os.getpid).values()))
    found = sorted(Workers(client=client).run(_killing_all_once, shared, range(6)))
    assert Path(shared[0]).exists()
    assert found == [task**2 for task in range(6)]


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_a_task_that_kills_its_workers_is_an_error(client):
    with pytest.raises(BrokenExecutor):
        list(Workers(client=client).run(_killing_always, None, range(3)))


@pytest.mark.full
def test_a_killed_process_of_an_executor_leaves_the_draws_made(fit):
    with ProcessPoolExecutor(2) as executor, pytest.warns(MixedfxWarning, match="killed"):
        found = fit.bootstrap(
            40, rng=1, progress=False, client=executor, statistic=_Killer(os.getpid())
        )
    assert len(found.draws) < 40


class _Killer:
    """A statistic that ends another process than the one it was made in."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, fit) -> float:
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return fit.sigma


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"client": 3}, "client=3 must be a dask.distributed.Client or an Executor"),
        ({"client": "tcp://host:8786"}, "must be a dask.distributed.Client"),
        ({"client": ThreadPoolExecutor}, "must be a dask.distributed.Client"),
        ({"client": ThreadPoolExecutor(1), "n_jobs": 2}, "n_jobs=2 and client= both say"),
        ({"n_jobs": 0}, "n_jobs=0 must be a number of processes"),
    ],
)
@pytest.mark.parametrize("method", ["bootstrap", "profile"])
def test_what_cannot_compute_is_named(fit, arguments, words, method):
    with pytest.raises(ArgumentError, match=words):
        getattr(fit, method)(**arguments)


def test_the_generator_can_be_closed():
    with ThreadPoolExecutor(1) as executor:
        results = Workers(client=executor).run(_double, None, range(100))
        assert next(results) % 2 == 0
        results.close()


def _double(_: None, task: int) -> int:
    return 2 * task
