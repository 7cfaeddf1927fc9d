"""BLAS is held to one thread for small dense blocks, and left to the user for large ones."""

from __future__ import annotations

import threadpoolctl

from mixedfx.linalg import blas_threads
from mixedfx.linalg.blas_threads import single_threaded_blas


class Recorder:
    """In place of threadpoolctl's controller: what it was asked for, while it holds."""

    def __init__(self):
        self.limits = []

    def limit(self, **asked):
        self.limits.append(asked)
        return self

    def restore_original_limits(self):
        self.limits.append("restored")


def test_a_small_block_has_one_thread_and_the_setting_is_restored(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(blas_threads, "_controller", lambda: recorder)
    with single_threaded_blas(1499):
        assert recorder.limits == [{"limits": 1, "user_api": "blas"}]
    assert recorder.limits[1:] == ["restored"]


def test_a_large_block_has_the_threads_of_the_user(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(blas_threads, "_controller", lambda: recorder)
    with single_threaded_blas(1500):
        pass
    assert recorder.limits == []


def test_the_libraries_that_are_loaded_are_limited():
    def threads():
        return [
            m["num_threads"] for m in threadpoolctl.threadpool_info() if m["user_api"] == "blas"
        ]

    before = threads()
    with single_threaded_blas(10):
        assert set(threads()) <= {1}
    assert threads() == before
