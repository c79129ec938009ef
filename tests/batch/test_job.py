"""A list that is frozen wholly or not at all, and a job that goes on only as it began."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_workers import frozen
from hrpose.batch.job import check_same, freeze, load_job, part
from refusals import refused


def test_a_frozen_list_holds_all_names(tmp_path: Path) -> None:
    job = frozen(tmp_path, 10, 4)
    assert load_job(tmp_path) == job
    assert (job.images, job.partitions) == (10, 3)
    assert [job.size(i) for i in range(3)] == [4, 4, 2]
    assert [name for i in range(3) for name in job.names(i)] == [f"{i:04d}.jpg" for i in range(10)]


def test_the_id_is_of_the_names_and_the_settings(tmp_path: Path) -> None:
    def id_of(*names: str, **settings: object) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return freeze(folder, "place", names, 4, settings).id

    assert id_of("a", "b", x=1) == id_of("a", "b", x=1)
    others = [id_of("a", "c", x=1), id_of("ab", x=1), id_of("a", "b", x=2), id_of("b", "a", x=1)]
    assert len({id_of("a", "b", x=1), *others}) == 5


def test_a_partly_frozen_list_is_frozen_again(tmp_path: Path) -> None:
    def broken() -> Any:
        yield from (f"{i}.jpg" for i in range(9))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        freeze(tmp_path, "place", broken(), 2, {})
    assert load_job(tmp_path) is None
    assert len(list((tmp_path / "manifest").iterdir())) == 4
    frozen(tmp_path, 4, 4)
    assert [path.name for path in (tmp_path / "manifest").iterdir()] == ["part-000000.parquet"]


@pytest.mark.parametrize(
    ("names", "code"), [([], "images-missing"), (["a", "b", "c", "a"], "names-collide")]
)
def test_lists_without_a_job(tmp_path: Path, names: list[str], code: str) -> None:
    with refused(code, "place"):
        freeze(tmp_path, "place", names, 2, {})
    assert load_job(tmp_path) is None


@pytest.mark.parametrize(
    ("source", "partition", "settings", "mentions"),
    [
        ("other", None, {"a": 1}, ("source", "place", "other")),
        ("place", 5, {"a": 1}, ("partition 4", "5")),
        ("place", None, {"a": 2}, ("a 1", "2")),
        ("place", None, {"a": 1, "b": 2}, ("b None", "2")),
        ("place", None, {}, ("a 1", "None")),
    ],
)
def test_a_job_resumes_only_with_the_same_settings(
    tmp_path: Path,
    source: str,
    partition: int | None,
    settings: dict[str, Any],
    mentions: tuple[str, ...],
) -> None:
    job = frozen(tmp_path, 10, 4)
    check_same(job, "place", None, {"a": 1})
    check_same(job, "place", 4, {"a": 1})
    with refused("job-differs", *mentions):
        check_same(job, source, partition, settings)


def no_number(job: dict[str, Any]) -> None:
    job["images"] = "ten"


def of_another_version(job: dict[str, Any]) -> None:
    job["version"] = 99


def nothing_to_do(job: dict[str, Any]) -> None:
    job["partition"] = 0


@pytest.mark.parametrize("spoil", [no_number, of_another_version, nothing_to_do])
def test_a_damaged_job_is_one_line(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    frozen(tmp_path, 10, 4)
    document = json.loads((tmp_path / "job.json").read_bytes())
    spoil(document)
    (tmp_path / "job.json").write_text(json.dumps(document))
    with refused("job-damaged", "job.json"):
        load_job(tmp_path)


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    job = frozen(tmp_path, 10, 4)
    part(tmp_path / "manifest", 1).write_bytes(part(tmp_path / "manifest", 2).read_bytes())
    with refused("job-damaged", "4", "2"):
        job.names(1)
    part(tmp_path / "manifest", 1).write_bytes(b"PAR1")
    with refused("job-damaged", "part-000001.parquet"):
        job.names(1)


def test_results_without_a_job_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    part(tmp_path / "poses", 0).touch()
    with refused("folder-not-empty", "poses"):
        frozen(tmp_path, 3, 2)
