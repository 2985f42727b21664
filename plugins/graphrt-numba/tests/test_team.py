"""Work that compiled loops share out among threads."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from graphrt_numba.compiler import helper, loop
from graphrt_numba.team import TEAM, Team, share


@helper
def _square(part, bounds, x, y):
    for i in range(bounds[part], bounds[part + 1]):
        y[i] += x[i] * x[i]


@loop
def squares(team, hands, bounds, x, y):
    share(team, hands, len(bounds) - 1, _square, (bounds, x, y))


@loop
def sums(first, last, x, total):
    for i in range(first, last):
        total[0] += x[i]


KINDS = "int64*", "int64", "int64*", "float32*", "float32*"


def job(call, size):
    x, y = np.arange(size, dtype=np.float32), np.ones(size, np.float32)
    call(x, y)
    np.testing.assert_array_equal(y, x * x + 1)  # each part once


@pytest.mark.parametrize("hands", [0, 1, 3])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_each_part_is_done_once(hands, parts):
    team = Team()
    call = team.calls(squares, KINDS, hands, np.linspace(0, 1000, parts + 1).astype(np.int64))
    for pause in (0, 0, 0.01, 0.2, 0):  # threads are at work, watching, or asleep
        time.sleep(pause)
        for _ in range(50):
            job(call, 1000)


def test_several_callers_at_a_time():
    call = TEAM.calls(squares, KINDS, 1, np.array([0, 5000, 10000]))
    failures = []

    def caller():
        try:
            for _ in range(300):
                job(call, 10000)
        except AssertionError as e:
            failures.append(e)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_part_has_a_row_of_its_own():
    call = TEAM.shares(sums, ["float32*", "float32**"], np.array([0, 10, 40, 100]))
    x, totals = np.ones(100, np.float32), np.zeros((3, 5), np.float32)
    call(x, totals)
    assert totals[:, 0].tolist() == [10, 30, 60] and not totals[:, 1:].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_has_threads_of_its_own():
    call = TEAM.calls(squares, KINDS, 1, np.array([0, 500, 1000]))
    job(call, 1000)
    child = os.fork()
    if not child:
        code = 1
        try:
            for _ in range(20):
                job(call, 1000)
                time.sleep(0.002)
            code = 0 if TEAM._started else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
