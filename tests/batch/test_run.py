"""Every image gets exactly one row, whatever becomes of the workers."""

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_workers import Scripted, failures, frozen, results
from hrpose.batch.job import Counts, Job, part
from hrpose.batch.run import State, run, to_do
from hrpose.errors import UserError
from refusals import refused


def names(count: int) -> list[str]:
    return [f"{i:04d}.jpg" for i in range(count)]


def go_on(job: Job, engine: Scripted, polls: int | None = None) -> State:
    """Run what is to do, to its end or until `stopped` was asked so many times."""
    asked = iter(range(polls)) if polls is not None else None
    partitions, done = to_do(job)
    stopped = (lambda: next(asked, None) is None) if asked is not None else (lambda: False)
    return run(job, engine, partitions, done, stopped=stopped)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    count=st.integers(1, 40),
    partition=st.integers(1, 15),
    workers=st.integers(1, 4),
    deadly=st.sets(st.integers(0, 39), max_size=2),
    stops=st.lists(st.integers(0, 12), max_size=3),
    seed=st.integers(0, 1000),
)
def test_one_row_for_each_image(
    count: int, partition: int, workers: int, deadly: set[int], stops: list[int], seed: int
) -> None:
    """Workers die at some images always, and now and then at any; the run stops and goes on."""
    bad = {name for i, name in enumerate(names(count)) if i in deadly}
    chance = random.Random(seed)

    def dies(given: Sequence[str]) -> bool:
        return bool(bad & set(given)) or (len(given) > 1 and chance.random() < 0.1)

    with TemporaryDirectory() as folder:
        job = frozen(Path(folder), count, partition)
        for polls in stops:
            engine = Scripted(workers, dies)
            go_on(job, engine, polls)
            assert engine.closed
        state = go_on(job, Scripted(workers, dies))
        assert state.finished
        assert state.done == Counts(count, len(bad), 0)
        assert [row["file"] for row in results(Path(folder))] == names(count)
        assert dict(failures(Path(folder))).keys() == bad
        assert to_do(job) == ([], state.done)


def test_nothing_is_done_twice_without_a_loss(tmp_path: Path) -> None:
    job = frozen(tmp_path, 30, 4)
    go_on(job, Scripted(2, lambda given: False), 3)
    kept = [row["file"] for row in results(tmp_path)]
    assert 0 < len(kept) < 30
    second = Scripted(2, lambda given: False)
    go_on(job, second)
    assert sorted([*kept, *second.given]) == names(30)
    third = Scripted(2, lambda given: False)
    assert go_on(job, third).finished
    assert third.given == []


def test_the_reason_names_the_image_and_the_end_of_the_worker(tmp_path: Path) -> None:
    job = frozen(tmp_path, 10, 10)
    go_on(job, Scripted(2, lambda given: "0003.jpg" in given))
    assert list(failures(tmp_path)) == [
        ("0003.jpg", "0003.jpg: its worker was lost 2 times, the last one by the script")
    ]


def test_no_more_workers_than_work(tmp_path: Path) -> None:
    engine = Scripted(8, lambda given: False)
    go_on(frozen(tmp_path, 6, 2), engine)
    assert engine.count == 3


def test_a_run_ends_where_all_workers_die(tmp_path: Path) -> None:
    with refused("workers-lost", "21"):
        go_on(frozen(tmp_path, 4000, 1000), Scripted(2, lambda given: True))


@pytest.mark.parametrize("spoil", ["cut", "missing", "other job", "rows"])
def test_invalid_results_are_written_again(tmp_path: Path, spoil: str) -> None:
    job = frozen(tmp_path, 10, 4)
    go_on(job, Scripted(1, lambda given: False))
    before = results(tmp_path)
    path = part(tmp_path / "poses", 1)
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif spoil == "missing":
        path.unlink()
    elif spoil == "rows":
        path.write_bytes(part(tmp_path / "poses", 2).read_bytes())
    else:
        other = frozen(tmp_path / "other", 10, 2)
        go_on(other, Scripted(1, lambda given: False))
        path.write_bytes(part(tmp_path / "other" / "poses", 1).read_bytes())
    assert to_do(job)[0] == [1]
    go_on(job, Scripted(1, lambda given: False))
    assert results(tmp_path) == before


def test_failed_images_can_be_retried(tmp_path: Path) -> None:
    job = frozen(tmp_path, 12, 4)
    go_on(job, Scripted(1, lambda given: "0005.jpg" in given))
    assert to_do(job)[0] == []
    partitions, done = to_do(job, retry_failed=True)
    assert (partitions, done) == ([1], Counts(8, 0, 0))
    run(job, Scripted(1, lambda given: False), partitions, done)
    assert list(failures(tmp_path)) == []
    assert len(results(tmp_path)) == 12


def test_a_changed_bit_is_noticed(tmp_path: Path) -> None:
    job = frozen(tmp_path, 200, 200)
    go_on(job, Scripted(1, lambda names: False))
    path, before = job.results(0), results(tmp_path)
    content, rng = bytearray(path.read_bytes()), random.Random(0)
    pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    noticed = 0
    for _ in range(40):
        at, bit = rng.randrange(4, pages), 1 << rng.randrange(8)
        content[at] ^= bit
        path.write_bytes(content)
        content[at] ^= bit
        try:
            # A bit that nothing reads, as in the statistics, may change.
            assert results(tmp_path) == before
        except UserError as error:
            noticed += error.code == "job-damaged"
    assert noticed > 20
