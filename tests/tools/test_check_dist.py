"""What is published: built from this tree, and refused where something is wrong with it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))  # `release` is beside the package, not inside it.
from tools import check_dist

WHEEL = f"hrpose-{check_dist.version()}-py3-none-any.whl"
INFO = f"hrpose-{check_dist.version()}.dist-info"


def build(source: Path, out: Path, kind: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (built,) = out.iterdir()
    return built


@pytest.mark.slow
def test_an_sdist_of_this_tree_builds_the_wheel_that_belongs(tmp_path: Path) -> None:
    sdist = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    # Neither git nor a tag is there.
    wheel = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel", "wheel")
    assert wheel.name == WHEEL
    dist = tmp_path / "dist"
    dist.mkdir()
    for file in (sdist, wheel):
        shutil.copy(file, dist)
    # A file that is not committed yet belongs to nobody's release, and to no failing test.
    problems = [p for p in check_dist.check(dist, use=False) if not untracked(p)]
    assert problems == []
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"hrpose/py.typed", "hrpose/weights/w32-small.onnx", "hrpose/serve/page/main.js"} < names


def untracked(problem: str) -> bool:
    name = problem.partition(": ")[2].removesuffix(" does not belong into it")
    listed = subprocess.run(
        ["git", "status", "--porcelain", "-z", "-uall"], cwd=ROOT, capture_output=True, text=True
    )
    return any(row[3:] in (name, f"src/{name}") for row in listed.stdout.split("\0"))


def pack(folder: Path, extra: dict[str, bytes], without: str = "") -> Path:
    """A wheel of the right files, with `extra` ones."""
    wheel = folder / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in sorted((ROOT / "src" / "hrpose").rglob("*")):
            name = file.relative_to(ROOT / "src").as_posix()
            if file.is_file() and "__pycache__" not in name and name != without:
                archive.writestr(name, b"")
        for notice in ("LICENSE", "NOTICE"):
            if notice != without:
                archive.writestr(f"{INFO}/licenses/{notice}", b"")
        for name, content in extra.items():
            archive.writestr(name, content)
    return wheel


@pytest.mark.parametrize(
    ("extra", "without", "said"),
    [
        ({"hrpose/notes.pkl": b""}, "", "hrpose/notes.pkl does not belong"),
        ({"tests/test_a.py": b""}, "", "tests/test_a.py does not belong"),
        ({"hrpose/__pycache__/a.py": b""}, "", "__pycache__/a.py does not belong"),
        ({}, "LICENSE", "LICENSE is missing"),
        ({"hrpose/large.npz": b"\0" * 20_100_000}, "", "expected at most 20 MB, found"),
    ],
    ids=["pickle", "tests", "cache", "licence", "size"],
)
def test_a_wheel_with_something_wrong_is_refused(
    tmp_path: Path, extra: dict[str, bytes], without: str, said: str
) -> None:
    assert any(
        said in problem for problem in check_dist.wrong_wheel(pack(tmp_path, extra, without))
    )


def test_other_files_than_the_two_are_refused(tmp_path: Path) -> None:
    (tmp_path / "hrpose-0.0.1.tar.gz").touch()
    (problem,) = check_dist.check(tmp_path)
    assert WHEEL in problem
    assert "found hrpose-0.0.1.tar.gz" in problem


def test_a_tag_must_be_the_version_and_in_the_changelog() -> None:
    wrong = check_dist.wrong_tag("v99.0.0")
    assert wrong[0] == (
        f"tag v99.0.0: expected v{check_dist.version()}, as in src/hrpose/_version.py"
    )
    right = check_dist.wrong_tag(f"v{check_dist.version()}")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (right == []) == (f"## [{check_dist.version()}]" in changelog)
