"""From a published file to weights that predict, through the command line."""

import errno
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from conftest import ROOT
from hrpose import engines
from hrpose.cli.main import app
from hrpose.cli.weights import provide
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import HRNet, convert
from hrpose.session import open_session
from hrpose.weights import find, find_start
from hrpose.weights.download import fetch
from hrpose.weights.registry import RELEASED, Released, file_sha256, home
from refusals import check_refusal, refused
from without import run_without


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


def test_downloaded_weights_run_on_every_engine(released: Released, tmp_path: Path) -> None:
    assert run("download", "w16-test", "--from", str(tmp_path / "published.pth")).exit_code == 0
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 96, 3), np.uint8)
    expected = open_session(find("w16-test"), device="cpu", precision="fp32")(images)
    if not engines.openvino_devices():
        pytest.skip("OpenVINO is not installed")
    found = open_session(find("w16-test"), device="openvino", precision="fp32")(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


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
    assert [path for path in home().rglob("*") if path.is_file() and path.suffix != ".lock"] == []


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


@pytest.mark.parametrize("failing", ["os.fsync", "Path.replace"])
def test_a_full_disk_leaves_nothing_behind(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"hrpose.io.{failing}", full)
    ran = run("download", "w16-test", "--from", str(tmp_path / "published.pth"))
    assert isinstance(ran.exception, UserError)
    assert ran.exception.code == "write-failed"
    assert "No space left on device" in str(ran.exception)
    assert [path for path in home().rglob("*") if path.is_file()] == []


@pytest.fixture
def mirrored(released: Released, server: Any, monkeypatch: pytest.MonkeyPatch) -> Released:
    """A row with two addresses."""
    first = f"{server.address}?broken"
    row = replace(released, name="w16-mirrored", addresses=(first, server.address))
    monkeypatch.setitem(RELEASED, row.name, row)
    return row


def test_the_next_address_continues_what_the_first_began(
    mirrored: Released, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.cuts = [1_000_000, 0]
    assert run("download", mirrored.name).exit_code == 0
    assert server.requests == [None, "bytes=1000000-", "bytes=1000000-"]
    assert file_sha256(home() / "weights" / mirrored.file_name) == server.sha256
    assert f"127.0.0.1:{server.server_port}: the connection was interrupted" in caplog.text


def test_an_address_that_has_others_behind_it_is_not_waited_for(
    mirrored: Released, server: Any
) -> None:
    server.cuts = [0]
    assert run("download", mirrored.name).exit_code == 0
    assert len(server.requests) == 2


def test_what_all_addresses_said_is_reported(mirrored: Released, server: Any) -> None:
    server.content = b"<html>moved</html>"
    ran = run("download", mirrored.name)
    host = f"127.0.0.1:{server.server_port}"
    check_refusal(ran, "hash-differs", mirrored.name, mirrored.file_name)
    assert str(ran.exception).count(f"{host}: gave another file") == len(mirrored.addresses)


def test_a_file_that_rots_is_found(released: Released) -> None:
    run("download", "w16-test")
    file = home() / "weights" / released.file_name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    ran = run("verify")
    assert ran.exit_code == 1
    assert f"w16-test: another file; delete {file} and download it again" in ran.output
    with refused("hash-differs", "w16-test", str(file)):
        find_start("w16-test")
    assert run("download", "w16-test").exit_code == 0
    assert find_start("w16-test") == file


def test_a_detector_that_rots_is_refused_at_its_first_use(
    released: Released, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(released, name="detector-test", kind="detector", metadata=None)
    monkeypatch.setitem(RELEASED, row.name, row)
    assert run("download", row.name).exit_code == 0
    file = find(row.name)
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with refused("hash-differs", row.name):
        find(row.name)
    assert run("download", row.name).exit_code == 0
    assert find(row.name).read_bytes() == server.content


def test_usable_weights_that_rot_are_refused_and_made_again(released: Released) -> None:
    run("download", "w16-test")
    file = find("w16-test")
    whole = file.read_bytes()
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with refused("weights-damaged", file.name):
        open_session(file)
    assert run("download", "w16-test").exit_code == 0
    assert file.read_bytes() == whole
    ran = run("verify", "w32-coco-256x192")
    assert (ran.exit_code, ran.output) == (1, "w32-coco-256x192: not downloaded\n")


def test_the_list_names_everything(released: Released) -> None:
    output = run("list").output
    assert all(name in output for name in (*RELEASED, "w32-small", "w16-small"))
    (line,) = (line for line in output.splitlines() if "w32-coco-256x192-udp " in line)
    for fact in ("114", "COCO AP 0.762", "Apache-2.0", "most uses"):
        assert fact in line
    assert "inside" in output
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)["weights"]}
    assert rows.keys() == {"w32-small", "w16-small", *RELEASED}
    row = rows["w32-coco-256x192-udp"]
    assert (row["network"], row["input_wh"], row["here"]) == ("w32", [192, 256], "")
    assert row["license"] == RELEASED[row["name"]].license
    assert row["addresses"] == list(RELEASED[row["name"]].addresses)


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


# What `hrpose[weights]` does without.
NOT_NEEDED = ("torch", "safetensors", "onnxscript", "lightning", "scipy")
TABLE = """
from hrpose.cli.main import main
from hrpose.metadata import Metadata
from hrpose.weights.registry import RELEASED, Released
RELEASED['w16-test'] = Released('w16-test', 'pose', ({address!r},), {sha256!r}, 'MIT', 'nobody',
    0.5, 'AP', 'on nothing', Metadata('w16-small', (96, 128), name='w16-test'))
sys.argv = ['hrpose', *{arguments!r}]
main()
"""


def run_elsewhere(
    released: Released, arguments: list[str], missing: tuple[str, ...] = NOT_NEEDED
) -> "subprocess.CompletedProcess[str]":
    address, sha256 = released.addresses[0], released.sha256
    code = TABLE.format(address=address, sha256=sha256, arguments=arguments)
    return run_without(missing, code)


@pytest.mark.slow
def test_released_weights_predict_without_pytorch(
    released: Released, server: Any, tmp_path: Path
) -> None:
    """One command: download, conversion and poses; the second time nothing is downloaded."""
    command = ["predict", str(ROOT / "examples" / "astronaut.jpg"), "--weights", "w16-test"]
    command += ["--detector", "full-image", "--out", str(tmp_path / "out")]
    # Nobody can be asked here.
    done = run_elsewhere(released, command)
    assert (done.returncode, len(server.requests)) == (2, 0)
    assert "[weights-not-downloaded]" in done.stderr
    for fact in ("about 5 MB", "AP 0.500", "MIT", "`hrpose weights download w16-test`", "--yes"):
        assert fact in done.stderr
    done = run_elsewhere(released, [*command, "--yes"])
    assert done.returncode == 0, done.stderr
    assert "about 5 MB, published AP 0.500, license MIT" in done.stderr
    assert (tmp_path / "out" / "poses.json").is_file()
    done = run_elsewhere(released, [*command, "--overwrite"])
    assert (done.returncode, done.stderr, len(server.requests)) == (0, "", 1)


@pytest.mark.parametrize(("answer", "downloads"), [("y\n", 1), ("\n", 1), ("n\n", 0)])
def test_a_terminal_is_asked(
    released: Released,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    downloads: int,
) -> None:
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if downloads:
        provide(released, yes=False)
        assert find("w16-test").is_file()
    else:
        with refused("weights-not-downloaded", "about 5 MB"):
            provide(released, yes=False)
    assert len(server.requests) == downloads
    assert "published AP 0.500" in "".join(capsys.readouterr())


def test_a_package_that_is_missing_is_said_before_the_download(
    released: Released, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose.weights.download.find_spec", lambda _: None)
    ran = run("download", "w16-test")
    check_refusal(ran, "package-missing", "w16-test", "hrpose[weights]")
    with refused("package-missing", "hrpose[weights]"):  # before the question, too
        provide(released, yes=False)
    assert server.requests == []


def test_what_was_downloaded_is_only_converted(released: Released, server: Any) -> None:
    run("download", "w16-test")
    find("w16-test").unlink()
    provide(released, yes=False)
    assert find("w16-test").is_file()
    assert len(server.requests) == 1


def test_a_training_starts_from_the_published_file(released: Released) -> None:
    """What runs has no BatchNorm."""
    run("download", "w16-test")
    assert find_start("w16-test").name == released.file_name
    state = convert.read(find_start("w16-test")).state
    assert state["bn1.running_var"].any()
    assert find_start("w16-small") == find("w16-small")


def test_weights_of_another_network_are_not_converted(released: Released) -> None:
    row = replace(released, metadata=Metadata("w32", (96, 128)))
    with refused("weights-unsuitable", "w32 with 17", "w16-small with 17"):
        fetch(row)
    assert not list(home().rglob("*.onnx"))
