"""Weights for a laboratory without internet: bundles, folders and another server."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.metadata import Metadata
from hrpose.models import HRNet
from hrpose.weights import find
from hrpose.weights.bundle import address_in, opened, rows_from
from hrpose.weights.registry import RELEASED, Released, home
from refusals import check_refusal, refused

POSE, DETECTOR = "w16-laboratory", "detector-laboratory"


@cache
def published() -> bytes:
    """A file in the form of the publishers."""
    state = HRNet.from_name("w16-small").state_dict()
    file = io.BytesIO()
    torch.save({f"backbone.{key}": value for key, value in state.items()}, file)
    return file.getvalue()


@pytest.fixture
def rows(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Released]:
    """Two rows on the server, of which one is a pose model."""
    server.content = published()
    about = ("MIT", "nobody", 0.5, "AP", "on nothing")
    pose = Released(POSE, "pose", (server.address,), server.sha256[:8], *about)
    pose = replace(pose, metadata=Metadata("w16-small", (96, 128), name=POSE))
    other = server.address.replace(".pth", ".onnx")
    detector = Released(DETECTOR, "detector", (other,), server.sha256, *about)
    for row in (pose, detector):
        monkeypatch.setitem(RELEASED, row.name, row)
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "connected"))
    return [pose, detector]


@pytest.fixture
def bundle(
    rows: list[Released], server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A bundle made on a connected machine; now on one without a network."""
    out = tmp_path / "weights.zip"
    ran = run("bundle", *(row.name for row in rows), str(out))
    assert ran.exit_code == 0, ran.output
    for address in {address for row in rows for address in row.addresses}:
        assert address in zipfile.ZipFile(out).read("README.txt").decode()
    server.requests.clear()
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "laboratory"))
    return out


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["weights", *arguments])


def test_a_bundle_brings_all_that_is_in_it(bundle: Path, rows: list[Released], server: Any) -> None:
    ran = run("download", "--from", str(bundle), "--json")
    assert ran.exit_code == 0, ran.output
    assert [each["name"] for each in json.loads(ran.stdout)["weights"]] == [POSE, DETECTOR]
    for row in rows:
        assert (home() / "weights" / row.file_name).read_bytes() == server.content
    assert find(POSE).suffix == ".onnx"
    assert find(DETECTOR).is_file()
    assert run("verify").exit_code == 0
    assert server.requests == []


def test_only_what_is_named_is_taken(bundle: Path) -> None:
    assert run("download", DETECTOR, "--from", str(bundle)).exit_code == 0
    assert find(DETECTOR).is_file()
    with refused("weights-not-downloaded", POSE):
        find(POSE)


def test_an_unpacked_bundle_is_a_folder_and_its_sums_are_right(
    bundle: Path, rows: list[Released], tmp_path: Path
) -> None:
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(bundle).extractall(folder)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert run("download", "--from", str(folder)).exit_code == 0
    assert find(POSE).is_file()


def test_a_folder_on_another_server_serves_as_well(
    bundle: Path, rows: list[Released], server: Any
) -> None:
    place = f"http://127.0.0.1:{server.server_port}/laboratory"
    assert run("download", POSE, DETECTOR, "--from", place).exit_code == 0
    assert len(server.requests) == 2
    assert run("verify").exit_code == 0


def test_a_bundle_is_the_same_whenever_it_is_made(
    bundle: Path, rows: list[Released], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "connected"))
    again = tmp_path / "again" / bundle.name
    assert run("bundle", POSE, DETECTOR, POSE, "--out", str(again)).exit_code == 0
    assert again.read_bytes() == bundle.read_bytes()


def test_a_bundle_whose_weights_are_others_is_refused(bundle: Path, rows: list[Released]) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-1] + b"?")
    ran = run("download", "--from", str(bundle))
    check_refusal(ran, "hash-differs", str(bundle), rows[0].sha256)
    assert not list(home().rglob("*.pth"))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bundle_that_rots_brings_the_right_file_or_none(
    bundle: Path, rows: list[Released], where: float, bit: int
) -> None:
    content = bytearray(bundle.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    damaged = bundle.with_name("damaged.zip")
    damaged.write_bytes(content)
    ran = run("download", DETECTOR, "--from", str(damaged))
    target = home() / "weights" / rows[1].file_name
    if ran.exit_code:
        assert ran.exception.code in ("hash-differs", "archive-invalid", "file-unreadable")  # type: ignore[union-attr]
        assert not target.exists()
    target.unlink(missing_ok=True)


def packed(path: Path, name: str, content: bytes = b"no weights", **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, content)
    return path


def test_what_is_no_bundle_is_refused(rows: list[Released], tmp_path: Path) -> None:
    row = rows[0]
    other = packed(tmp_path / "other.zip", f"folder/{row.file_name}")
    check_refusal(run("download", POSE, "--from", str(other)), "file-unreadable", row.file_name)
    check_refusal(run("download", "--from", str(other)), "file-unreadable", str(other))
    text = tmp_path / "text.zip"
    text.write_text("text")
    check_refusal(run("download", POSE, "--from", str(text)), "archive-invalid", str(text))
    check_refusal(run("download", "--from", str(tmp_path / "no.zip")), "file-unreadable", "no.zip")
    empty = tmp_path / "empty"
    empty.mkdir()
    check_refusal(run("download", "--from", str(empty)), "file-unreadable", str(empty))
    check_refusal(run("download", POSE, "--from", str(empty)), "file-unreadable", row.file_name)


def test_a_member_without_end_is_not_unpacked(
    rows: list[Released], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = packed(
        tmp_path / "bomb.zip", rows[0].file_name, bytes(1_000_000), compression=zipfile.ZIP_DEFLATED
    )
    monkeypatch.setattr("hrpose.weights.bundle.MAX_MODEL_BYTES", 999_999)
    with refused("file-too-large", str(bomb)), opened(bomb, rows[0]):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_in_a_folder_is_not_waited_for(rows: list[Released], tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / rows[0].file_name)
    with refused("file-unreadable", rows[0].file_name), opened(tmp_path, rows[0]):
        pass


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("download",), "option-missing"),
        (("download", "--from", "http://127.0.0.1/weights/"), "option-missing"),
        (("download", "--from", __file__), "option-missing"),
        (("download", "--from", "weights"), "file-unreadable"),
        (("download", POSE, "--from", "http://127.0.0.1/weights.zip"), "option-invalid"),
        (("download", POSE, DETECTOR, "--from", "weights.pth"), "option-invalid"),
        (("bundle", POSE, DETECTOR), "option-invalid"),
        (("bundle", "out.zip"), "option-invalid"),
        (("bundle", POSE, str(Path(__file__) / "out.zip")), "write-failed"),
        (("bundle", POSE, "--out", "out.tar"), "option-invalid"),
        (("bundle", "w64", "out.zip"), "weights-unknown"),
        (("bundle", "w32-small", "out.zip"), "weights-unknown"),
    ],
)
def test_wrong_arguments_are_refused(
    rows: list[Released], arguments: tuple[str, ...], code: str
) -> None:
    check_refusal(run(*arguments), code)


def test_the_place_of_another_file_is_named(
    rows: list[Released], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / rows[0].file_name).write_bytes(b"other")
    for place in (tmp_path, file):
        ran = run("download", POSE, "--from", str(place))
        check_refusal(ran, "hash-differs", str(tmp_path), rows[0].file_name, "publisher")
    monkeypatch.setattr("hrpose.weights.bundle.MAX_MODEL_BYTES", 4)
    check_refusal(run("download", POSE, "--from", str(file)), "file-too-large", str(file))


def test_an_address_is_that_of_a_file_or_of_a_folder(rows: list[Released]) -> None:
    row = rows[0]
    assert address_in("https://a.org/any?id=1", row) == "https://a.org/any?id=1"
    assert address_in("https://a.org/w/", row) == f"https://a.org/w/{row.file_name}"
    assert address_in("https://a.org/w", row, several=True) == f"https://a.org/w/{row.file_name}"


def test_a_name_that_is_given_twice_counts_once(rows: list[Released]) -> None:
    assert rows_from([POSE, DETECTOR, POSE]) == rows
