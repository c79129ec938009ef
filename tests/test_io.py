"""Files: texts of model files as the formats' own libraries see them, names, locks, prefetching."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import filelock
import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, save

from hrpose.errors import UserError
from hrpose.io import (
    fitted,
    locked,
    name_to_text,
    prefetch,
    read_texts,
    replacing,
    text_to_name,
    with_texts,
    write_atomically,
)
from hrpose.metadata import (
    CHECKSUM_KEY,
    DetectorMetadata,
    Metadata,
    checksum_holds,
    metadata_of,
    read_metadata,
    write_with_metadata,
)
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

TENSORS = {"a": np.arange(7.0), "b": np.ones((2, 3), np.int8)}
DETECTOR = DetectorMetadata("tiny", 64)
texts = st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=300), max_size=5)


def onnx_model(found: dict[str, str]) -> bytes:
    model = onnx.ModelProto(ir_version=10, producer_name="other", model_version=300)
    model.graph.name = "graph"
    onnx.helper.set_model_props(model, found)
    content: bytes = model.SerializeToString()
    return content


@given(texts, texts)
def test_onnx_has_the_texts_and_all_else(before: dict[str, str], new: dict[str, str]) -> None:
    path = Path("a.onnx")
    gone: dict[str, str | None] = dict.fromkeys(list(before)[:1])
    content = with_texts(path, onnx_model(before), {**gone, **new})
    model = onnx.ModelProto.FromString(content)
    expected = {k: v for k, v in {**before, **gone, **new}.items() if v is not None}
    assert {entry.key: entry.value for entry in model.metadata_props} == expected
    onnx.helper.set_model_props(model, before)
    assert model == onnx.ModelProto.FromString(onnx_model(before))


@given(texts, texts)
def test_safetensors_has_the_texts_and_all_else(
    before: dict[str, str], new: dict[str, str]
) -> None:
    content = with_texts(Path("a.safetensors"), save(TENSORS, before), new)
    assert int.from_bytes(content[:8], "little") % 8 == 0
    again = load(content)
    assert again.keys() == TENSORS.keys()
    assert all((again[name] == TENSORS[name]).all() for name in TENSORS)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == before | new


@pytest.mark.parametrize("metadata", [METADATA, DETECTOR])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_metadata_there_and_back(
    tmp_path: Path, suffix: str, metadata: Metadata | DetectorMetadata
) -> None:
    path = tmp_path / f"a.{suffix}"
    content = (
        onnx_model({"other": "kept"}) if suffix == "onnx" else save(TENSORS, {"other": "kept"})
    )
    path.write_bytes(content)
    assert read_metadata(path) is None
    # Whatever was there before goes.
    for each in (METADATA, DETECTOR, metadata):
        write_with_metadata(path, path.read_bytes(), each)
    assert read_metadata(path) == metadata
    assert metadata_of(path, type(metadata)) == metadata
    assert checksum_holds(path)
    texts = read_texts(path)
    del texts[CHECKSUM_KEY]
    assert texts == {"other": "kept", metadata.keys[0]: metadata.to_json()}
    if suffix == "safetensors":
        with safe_open(path, "np") as file:
            assert file.metadata() == read_texts(path)


def test_what_the_file_is_not_is_said(tmp_path: Path) -> None:
    bare, poses = tmp_path / "bare.onnx", write_tiny_weights(tmp_path / "poses.onnx")
    bare.write_bytes(onnx_model({}))
    with refused("metadata-missing", "bare.onnx"):
        metadata_of(bare, Metadata)
    with refused("weights-unsuitable", "poses.onnx", "a person detector", "a pose model"):
        metadata_of(poses, DetectorMetadata)
    with refused("file-unreadable", "none.onnx"):
        read_metadata(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with refused("file-unreadable", "folder.onnx"):
        read_metadata(tmp_path / "folder.onnx")


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"no weights of any kind", b"\xff" * 40, (10**18).to_bytes(8, "little") + b"{}"],
)
def test_other_bytes_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with refused("weights-damaged", path.name):
        read_texts(path)
    if content:  # a protobuf message of no bytes is one without fields
        with refused("weights-damaged", path.name):
            with_texts(path, content, {"a": "b"})


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    whole = onnx_model({"a": "b" * 40}) if suffix == "onnx" else save(TENSORS, {"a": "b" * 40})
    broken = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / f"a.{suffix}"
    path.write_bytes(bytes(broken))
    with suppress(UserError):
        assert all(isinstance(text, str) for text in read_texts(path).values())


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
    for count in range(1, 20):
        next(results)
        assert len(begun) <= count + 4
    results.close()
    left = len(begun)
    assert left < 30
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


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


HOLDER = """
import sys, pathlib
from hrpose.io import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_whose_lock_ends_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with refused("folder-locked", str(tmp_path)), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass


def test_a_disk_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with locked(tmp_path):
        (tmp_path / "a").touch()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("write-failed", "file"), locked(tmp_path / "file"):
        pass


def test_the_lock_leaves_no_file(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


# What os.listdir may return on Linux, and on Windows.
NAMES = st.text(st.characters(exclude_characters="/\0"), max_size=40)


BYTES = st.binary(max_size=90).map(lambda name: name.decode(errors="surrogateescape"))


@given(NAMES | BYTES)
@example("a\\b.jpg")
@example("caf\\xe9.jpg")
@example("caf\udce9.jpg")
def test_names_become_text_and_back(name: str) -> None:
    text = name_to_text(name)
    assert text.encode().decode() == text  # UTF-8 holds it
    assert text_to_name(text) == name


@given(st.text(st.characters(exclude_characters="/\0\\", exclude_categories=["Cs"]), max_size=40))
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert name_to_text(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("caf\udce9.jpg", r"caf\xe9.jpg"),
        (r"caf\xe9.jpg", r"caf\\xe9.jpg"),
        ("a\\b\udcff", r"a\\b\xff"),
        (r"back\slash.jpg", r"back\slash.jpg"),
        ("\ud800", r"\ud800"),
    ],
)
def test_the_spelling_of_names(name: str, text: str) -> None:
    assert name_to_text(name) == text


@given(BYTES, st.integers(20, 60))
def test_long_names_are_cut_to_fit(name: str, most: int) -> None:
    cut = fitted(name, most)
    assert len(os.fsencode(cut)) <= most
    assert cut == name or len(os.fsencode(name)) > most
    assert fitted(name + "x" * 60, most) != fitted(name + "y" * 60, most)
    assert fitted("é" * 200 + ".jpg").endswith(".jpg")


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".jpg")
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
