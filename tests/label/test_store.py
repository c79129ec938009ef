"""The labels of a project: versions, conflicts, and what is left after a kill."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.label.store import Change, Conflict, Label, Store
from refusals import refused

LABEL = Label.checked([1, 2, 30, 40], [[5, 6, 2], None, [0, 0, 0]])
OTHER = Label.checked(None, [[7, 8, 1], None, None])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "labels.db")
    store.add_images([("a.jpg", ""), ("b.jpg", "clip.mp4")])
    yield store
    store.close()


def test_a_change_is_a_row_with_the_next_version(store: Store) -> None:
    revision, (row,), _ = store.apply([Change("change-1", 1, 0, "person-1", LABEL)], "ann")
    assert (row.version, row.label, row.by, revision) == (1, LABEL, "ann", 1)
    store.apply([Change("change-2", 1, 1, "person-1", OTHER)], "ann")
    (row,) = store.persons(1)
    assert (row.version, row.label) == (2, OTHER)
    store.apply([Change("change-3", 1, 2, "person-1", None)], "ann")
    assert store.persons() == []
    # Undone: the person comes back with its number.
    store.apply([Change("change-4", 1, 3, "person-1", OTHER)], "ann")
    assert [(row.number, row.version) for row in store.persons()] == [(1, 4)]


def test_of_two_changes_from_one_version_the_second_is_refused(store: Store) -> None:
    store.apply([Change("change-1", 1, 0, "person-1", LABEL)], "ann")
    store.apply([Change("change-2", 1, 1, "person-1", OTHER)], "ann")
    mine = [Change("change-3", 2, 0, "person-2", LABEL), Change("change-4", 1, 1, "person-1", None)]
    with pytest.raises(Conflict) as caught:
        store.apply(mine, "bob")
    (theirs,) = caught.value.persons
    assert (theirs.version, theirs.label, theirs.by) == (2, OTHER, "ann")
    # All changes of one request are made, or none.
    assert store.persons(2) == []


def test_a_change_that_is_sent_twice_counts_once(store: Store) -> None:
    change = Change("change-1", 1, 0, "person-1", LABEL)
    first = store.apply([change], "ann")
    again = store.apply([change], "ann")
    assert first[1] == again[1]
    done = Change("change-2", 1, 0, done=True)
    assert store.apply([done], "ann")[2] == store.apply([done], "ann")[2]
    assert [image.version for image in store.images()] == [1, 0]


def test_two_may_say_that_an_image_is_done_but_not_the_opposite(store: Store) -> None:
    store.apply([Change("change-1", 1, 0, done=True)], "ann")
    store.apply([Change("change-2", 1, 0, done=True)], "bob")
    with pytest.raises(Conflict) as caught:
        store.apply([Change("change-3", 1, 0, done=False)], "eve")
    assert [image.done for image in caught.value.images] == [True]


def test_what_others_changed_is_found_by_revision(store: Store) -> None:
    revision, _, _ = store.apply([Change("change-1", 1, 0, "person-1", LABEL)], "ann")
    store.apply([Change("change-2", 2, 0, "person-2", LABEL)], "bob")
    assert store.changed_images(revision) == [2]
    assert store.revision == revision + 1


def test_one_process_at_a_time_and_only_files_of_labels(tmp_path: Path, store: Store) -> None:
    with refused("folder-locked"):
        Store(tmp_path / "labels.db")
    store.close()
    again = Store(tmp_path / "labels.db")
    assert [image.name for image in again.images()] == ["a.jpg", "b.jpg"]
    again.close()
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    with refused("project-invalid"):
        Store(tmp_path / "other.db")


_COORDINATE = st.floats(-10_000, 10_000).map(lambda value: round(value, 3))
_POINTS = st.lists(
    st.none() | st.tuples(_COORDINATE, _COORDINATE, st.integers(0, 2)), min_size=1, max_size=5
)
_BOXES = st.none() | st.tuples(_COORDINATE, _COORDINATE, st.floats(1, 99), st.floats(1, 99))


@given(_BOXES, _POINTS)
def test_a_label_is_read_as_it_was_written(box: object, points: list[object]) -> None:
    label = Label.checked(box, points)
    assert Label.from_json(label.to_json()) == label


@pytest.mark.parametrize(
    ("box", "keypoints"),
    [
        ([1, 2, 3], []), ([1, 2, 0, 4], []), ([1, 2, 3, float("nan")], []), (None, [[1, 2]]),
        (None, [[1, 2, 3]]), (None, [[True, 2, 2]]), (None, [["1", 2, 2]]), (None, [[1e9, 2, 2]]),
    ],
)  # fmt: skip
def test_odd_labels_are_refused(box: object, keypoints: object) -> None:
    with pytest.raises(ValueError, match=r"expected|unpack"):
        Label.checked(box, keypoints)


KILLED = """
import sys
from pathlib import Path
from hrpose.label.store import Change, Label, Store
store = Store(Path(sys.argv[1]))
store.add_images([("a.jpg", "")])
for version in range(100_000):
    label = Label.checked(None, [[version, 0, 2]])
    store.apply([Change(f"change-{version}", 1, version, "person-1", label)], "ann")
    print(version, flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_keeps_every_change_that_it_confirmed(tmp_path: Path) -> None:
    for _ in range(3):
        path = tmp_path / "labels.db"
        path.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        confirmed = [int(process.stdout.readline()) for _ in range(40)][-1]
        process.send_signal(signal.SIGKILL)
        confirmed = max([confirmed, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        store = Store(path)
        (row,) = store.persons()
        assert row.version - 1 >= confirmed
        assert row.label is not None
        assert row.label.keypoints[0] == (row.version - 1, 0, 2)
        store.close()
