"""From a published file to weights that predict, through the command line."""

import errno
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models.hrnet import HRNet
from hrpose.session import open_session
from hrpose.weights import find
from hrpose.weights.registry import RELEASED, Released, home
from refusals import refused


@pytest.fixture
def released(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Released:
    """A small network in the form of the publishers, on the server and in the table."""
    torch.manual_seed(0)
    state = {
        f"{'keypoint_head' if key.startswith('final') else 'backbone'}.{key}": value
        for key, value in HRNet.from_name("w16-small", 17).state_dict().items()
    }
    file = tmp_path / "published.pth"
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, file)
    server.content = file.read_bytes()
    row = Released(
        "w16-test",
        "pose",
        (server.address,),
        server.sha256[:8],
        "MIT",
        "nobody",
        0.5,
        "AP",
        "on nothing",
        Metadata(network="w16-small", input_wh=(96, 128), name="w16-test"),
    )
    monkeypatch.setitem(RELEASED, row.name, row)
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))
    return row


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["weights", *arguments])


def test_downloaded_weights_predict_by_their_name(released: Released, server: Any) -> None:
    with refused("weights-not-downloaded", "`hrpose weights download w16-test`"):
        find("w16-test")
    ran = run("download", "w16-test")
    assert ran.exit_code == 0, ran.output
    assert "license: MIT" in ran.output
    assert open_session(find("w16-test")).metadata == released.metadata
    assert run("path", "w16-test").output.strip() == str(find("w16-test"))
    assert run("verify").output == f"w16-test: sha256 {released.sha256}, as published\n"
    before = len(server.requests)
    assert run("download", "w16-test").exit_code == 0
    assert len(server.requests) == before, "files that are here are not downloaded again"


def test_a_download_killed_by_the_network_goes_on(released: Released, server: Any) -> None:
    server.cuts = [1_000_000, 0, 0]
    ran = run("download", "w16-test")
    assert isinstance(ran.exception, UserError)
    assert ran.exception.code == "download-failed"
    assert run("download", "w16-test").exit_code == 0
    assert server.requests[-1] == "bytes=1000000-"


def test_another_file_leaves_nothing_behind(released: Released, server: Any) -> None:
    server.content = b"no weights"
    ran = run("download", "w16-test")
    assert isinstance(ran.exception, UserError)
    assert ran.exception.code == "hash-differs"
    assert [path for path in home().rglob("*") if path.is_file()] == []


def test_a_file_fetched_elsewhere_is_taken_if_it_is_the_one(
    released: Released, server: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"no weights")
    ran = run("download", "w16-test", "--from", str(other))
    assert (ran.exception.code, "other.pth" in str(ran.exception)) == ("hash-differs", True)
    assert other.is_file()
    ran = run("download", "w16-test", "--from", str(tmp_path / "none.pth"))
    assert (ran.exception.code, "none.pth" in str(ran.exception)) == ("file-unreadable", True)
    assert run("download", "w16-test", "--from", str(tmp_path / "published.pth")).exit_code == 0
    assert find("w16-test").is_file()
    assert server.requests == []


@pytest.mark.parametrize(
    "failing", ["hrpose.weights.download.shutil.copyfile", "hrpose.weights.download.os.replace"]
)
def test_a_full_disk_leaves_nothing_behind(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(_origin: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failing, full)
    ran = run("download", "w16-test", "--from", str(tmp_path / "published.pth"))
    assert isinstance(ran.exception, UserError)
    assert ran.exception.code == "write-failed"
    assert "No space left on device" in str(ran.exception)
    assert not list(home().rglob("*.copy"))


def test_the_next_address_is_tried(released: Released, server: Any) -> None:
    dead = server.address.replace("/weights", "/none/weights")
    row = Released(
        "w16-mirrored",
        "detector",
        (dead, server.address),
        server.sha256,
        *("MIT", "nobody", 0.5, "AP", "on nothing"),
    )
    RELEASED[row.name] = row
    try:
        assert run("download", "w16-mirrored").exit_code == 0
        assert hashlib.sha256(find("w16-mirrored").read_bytes()).hexdigest() == row.sha256
    finally:
        del RELEASED[row.name]


def test_a_file_that_rots_is_found(released: Released) -> None:
    run("download", "w16-test")
    file = home() / "weights" / released.file_name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    ran = run("verify")
    assert ran.exit_code == 1
    assert f"w16-test: another file; delete {file} and download it again" in ran.output
    ran = run("verify", "w32-coco-256x192")
    assert (ran.exit_code, ran.output) == (1, "w32-coco-256x192: not downloaded\n")


def test_the_list_names_everything(released: Released) -> None:
    output = run("list").output
    assert all(name in output for name in (*RELEASED, "w16-small"))
    assert "0.746" in output
    assert "inside" in output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["download", "w64"], "weights-unknown"),
        (["download", "yolox-s", "yolox-nano", "--from", "x"], "option-invalid"),
        (["path", "w64"], "weights-unknown"),
        (["verify", "w64"], "weights-unknown"),
    ],
)
def test_wrong_names_are_refused(arguments: list[str], code: str) -> None:
    ran = run(*arguments)
    assert isinstance(ran.exception, UserError)
    assert ran.exception.code == code


def test_without_pytorch_the_file_is_kept_and_the_next_step_said(
    released: Released, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hrpose.metadata import Metadata\n"
        "from hrpose.weights.download import fetch\n"
        "from hrpose.weights.registry import Released\n"
        f"row = Released('t', 'pose', ({released.addresses[0]!r},), {released.sha256!r}, '', '',"
        " None, '', '', Metadata('w16-small', (96, 128)))\n"
        "try: fetch(row)\n"
        "except ValueError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'hrpose[train]' and give the same command again" in ran.stdout
    assert (home() / "weights" / released.file_name).is_file()
