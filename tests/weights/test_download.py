"""Downloads from a real server on this machine: cut, resumed, refused, verified."""

import socket
from pathlib import Path
from typing import Any

import pytest

from hrpose.errors import UserError
from hrpose.weights.download import download, file_sha256
from refusals import refused


def left_in(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.name for path in paths)


def test_a_file_is_complete_and_its_progress_reported(server: Any, tmp_path: Path) -> None:
    target, reports = tmp_path / "cache" / "w.pth", []
    download(
        server.address, target, server.sha256, lambda there, total: reports.append((there, total))
    )
    assert target.read_bytes() == server.content
    assert left_in(tmp_path) == ["w.pth"]
    assert reports[0] == (0, len(server.content))
    assert reports[-1] == (len(server.content), len(server.content))
    assert file_sha256(target) == server.sha256


def test_a_cut_connection_is_taken_up_where_it_broke(server: Any, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    download(server.address, tmp_path / "w.pth", server.sha256[:8])
    assert (tmp_path / "w.pth").read_bytes() == server.content
    assert server.requests == [None, "bytes=1000000-", "bytes=1500000-"]


def test_what_came_is_kept_for_the_next_call(server: Any, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 0, 0]
    with refused("download-failed", server.address, "1.0 MB"):
        download(server.address, tmp_path / "w.pth", server.sha256)
    assert left_in(tmp_path) == ["w.pth.part"]
    server.requests.clear()
    download(server.address, tmp_path / "w.pth", server.sha256)
    assert server.requests == ["bytes=1000000-"]
    assert (tmp_path / "w.pth").read_bytes() == server.content
    assert left_in(tmp_path) == ["w.pth"]


def test_a_server_without_ranges_sends_all_again(server: Any, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000]
    download(server.address, tmp_path / "w.pth", server.sha256)
    assert (tmp_path / "w.pth").read_bytes() == server.content


def test_a_part_that_was_whole_only_gets_its_name(server: Any, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(server.content)
    download(server.address, tmp_path / "w.pth", server.sha256)
    assert (tmp_path / "w.pth").read_bytes() == server.content
    assert server.requests == [f"bytes={len(server.content)}-"]


@pytest.mark.parametrize("size", [1000, 3_000_000, 3_000_007])
def test_a_part_of_another_file_is_thrown_away(server: Any, tmp_path: Path, size: int) -> None:
    (tmp_path / "w.pth.part").write_bytes(bytes(size))
    download(server.address, tmp_path / "w.pth", server.sha256)
    assert (tmp_path / "w.pth").read_bytes() == server.content


def test_another_file_is_not_kept(server: Any, tmp_path: Path) -> None:
    address, expected = server.address, server.sha256[:8]
    server.content = b"<html>Log in to this network first</html>"
    found = server.sha256[:8]
    with refused("hash-differs", expected, found, "a web page"):
        download(address, tmp_path / "w.pth", expected)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_too_large_is_not_kept(server: Any, tmp_path: Path, says_length: bool) -> None:
    server.says_length = says_length
    with refused("file-too-large", "2 MB"):
        download(server.address, tmp_path / "w.pth", server.sha256, max_bytes=2_000_000)
    assert left_in(tmp_path) == []


def test_a_redirect_is_followed(server: Any, tmp_path: Path) -> None:
    moved = server.address.replace("/weights", "/moved?/weights")
    download(moved, tmp_path / "w.pth", server.sha256)
    assert (tmp_path / "w.pth").read_bytes() == server.content


def test_a_redirect_out_of_http_is_not_followed(server: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(server.content)
    moved = server.address.replace("/weights", f"/moved?{secret.as_uri()}#")
    with refused("download-failed"):
        download(moved, tmp_path / "w.pth", server.sha256)
    assert left_in(tmp_path) == ["secret"]


def test_an_address_may_have_any_characters(server: Any, tmp_path: Path) -> None:
    address = server.address.replace("/weights", "/ä b/weights")
    download(address, tmp_path / "w.pth", server.sha256)


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        download("https://me:secret@example.org/w.pth", tmp_path / "w.pth", "0" * 64)
    assert caught.value.code == "address-invalid"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["file:///etc/hostname", "ftp://example.org/w.pth", "w.pth", "http://[::1", "https:///w.pth"],
)
def test_only_http_is_an_address(tmp_path: Path, address: str) -> None:
    with refused("address-invalid", address):
        download(address, tmp_path / "w.pth", "0" * 64)


def test_a_missing_page_is_requested_once(server: Any, tmp_path: Path) -> None:
    address = server.address.replace("/weights", "/none/weights")
    with refused("download-failed", "404"):
        download(address, tmp_path / "w.pth", server.sha256)
    assert len(server.requests) == 1


def test_without_a_network_the_remedy_is_said(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with refused("download-failed", str(port), "--from FILE"):
        download(f"http://127.0.0.1:{port}/w.pth", tmp_path / "w.pth", "0" * 64)


def test_a_folder_that_cannot_be_made_is_named(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("write-failed", "HRPOSE_HOME"):
        download(server.address, tmp_path / "file" / "w.pth", server.sha256)
