"""YAML files: hostile ones cost little, and are refused in one line."""

import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hrpose.yaml_file import Part, checked, load_as, read_yaml
from refusals import refused


def bomb(kind: str, levels: int = 9, wide: int = 9) -> str:
    """A few hundred bytes that stand for `wide` to the power of `levels` values."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels + 1):
        aliases = ", ".join([f"*a{level - 1}"] * wide)
        lines.append(f"a{level}: &a{level} {kind.format(aliases)}")
    return "\n".join(lines)


HOSTILE = {
    "merges": bomb("{{<<: [{}]}}"),
    "aliases": bomb("[{}]"),
    "many small values": "a:\n" + "- {b: c}\n" * 110_000,
    "an alias of itself": "a: &a [*a]",
    "a merge of itself": "a: &a {<<: *a, b: 1}",
    "nested lists": "a: " + "[" * 200_000,
    "nested mappings": "? " * 200_000,
    "nested by indentation": "\n".join(" " * depth + "a:" for depth in range(900)),
    "digits": "a: " + "9" * 900_000,
    "hexadecimal digits": "a: 0x" + "f" * 900_000,
    "nothing after 0x": "a: 0x_",
    "sexagesimal digits": "a: 1" + ":59" * 3000 + ".5",
    "a month too many": "a: 2026-13-01",
    "a null byte": "a: \0",
    "a tag": "a: !!python/object/apply:os.system [ls]",
    "a key twice": "a: 1\nb: 2\na: 3",
    "a key twice below": "a: [{b: 1, b: 1}]",
    "too many bytes": "a: " + "x" * 1_100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_soon_and_in_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HOSTILE[name])
    tracemalloc.start()
    start = time.process_time()
    try:
        with refused("file-too-large" if name == "too many bytes" else "recipe-invalid", "a.yaml"):
            read_yaml(path)
        assert time.process_time() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1\nepochs: 2\nlr: 3\n")
    with refused("recipe-invalid", "line 3", "'lr'"):
        read_yaml(path)


def test_anchors_and_merges_of_ordinary_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: [1, 2]}\nb: &b {<<: *a, x: 2}\nc: {<<: [*b], z: *a}\n")
    assert read_yaml(path) == yaml.safe_load(path.read_text())


class Lr(Part):
    lr: float = 0.1


@pytest.mark.parametrize("text", ["[" * 1000, "9" * 5000, "0x" + "f" * 5000, "{a: 1, a: 2}"])
def test_values_of_set_are_bounded_too(text: str) -> None:
    with refused("option-invalid", "--set lr"):
        checked({}, [f"lr={text}"], Lr, "here")


def test_a_number_beyond_floats_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("1e999", "1.0e+999", ".inf", "-.inf", ".nan", "0x" + "f" * 90):
        path.write_text(f"lr: {text}")
        if text.startswith("0x"):
            assert load_as(path, (), Lr).lr == float(int(text, 16))
            continue
        with refused("recipe-invalid", "lr"):
            load_as(path, (), Lr)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_pyyaml_writes_is_read(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(yaml.safe_dump(value))
        assert read_yaml(path) == value
