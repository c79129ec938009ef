"""Doing the next pieces of work while the last one is in use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], threads: int = 2) -> Iterator[R]:
    """`work` for each item, in order; up to 2 x `threads` of them are done before they are asked
    for, so that memory stays bounded. What `work` raises comes out in its turn.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= 2 * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        # Also when nobody asks for the rest.
        pool.shutdown(cancel_futures=True)
