"""Work done ahead: in order, bounded, and over when nobody asks any more."""

import threading
import time
from collections.abc import Iterator

import pytest

from hrpose.io import prefetch


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.01 if item < 3 else 0)
        return item * item

    assert list(prefetch(slow_at_first, range(20), threads)) == [i * i for i in range(20)]
    assert list(prefetch(slow_at_first, [], threads)) == []


def test_no_more_is_begun_than_bounded() -> None:
    begun: list[int] = []
    results = prefetch(lambda item: begun.append(item) or item, range(100), threads=2)
    for taken in range(1, 20):
        next(results)
        assert len(begun) <= taken + 4
    results.close()
    left = len(begun)
    assert left < 30
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_the_next_is_done_while_the_last_is_used() -> None:
    done = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            done.set()
        return item

    results = prefetch(work, range(3))
    assert next(results) == 0
    assert done.wait(5)


def test_an_error_comes_in_its_turn() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise RuntimeError("two")
        return item

    results: Iterator[int] = prefetch(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="two"):
        next(results)
