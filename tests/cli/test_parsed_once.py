"""Every command parses a COCO file once: half a gigabyte takes as long as the rest of the work."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hrpose import io
from hrpose.cli.main import app
from hrpose.synthetic import write_dataset
from tiny_weights import write_tiny_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, their results, and weights."""
    folder = tmp_path_factory.mktemp("sets")
    for name, seed in (("a", 3), ("b", 4)):
        write_dataset(folder / name, images=6, seed=seed)
    document = json.loads((folder / "a" / "annotations.json").read_bytes())
    results = [
        {key: person[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 0.5}
        for person in document["annotations"]
    ]
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write_tiny_weights(folder / "tiny.onnx")
    return folder


A, B, IMAGES, RESULTS = "a/annotations.json", "b/annotations.json", "a/images", "results.json"


@pytest.mark.parametrize(
    "command",
    [
        ("data", "stats", A),
        ("data", "split", A, "--out", "OUT", "--parts", "train=1,val=1"),
        ("data", "subset", A, "--out", "OUT", "--max-images", "2"),
        ("data", "merge", A, B, "--out", "OUT"),
        ("data", "check", A, "--images", IMAGES),
        ("data", "check", A, "--images", IMAGES, "--against", B, "--against-images", "b/images"),
        ("data", "skeleton", A),
        ("data", "sigmas", A, "--results", RESULTS),
        ("data", "sigmas", A, A),
        ("data", "convert", "coco", A, "--out", "OUT"),
        ("data", "convert", "to-cvat", A, "--out", "OUT"),
        ("data", "convert", "to-yolo", A, "--out", "OUT", "--val", B),
        (
            "analyze",
            RESULTS,
            "--annotations",
            A,
            "--images",
            IMAGES,
            "--weights",
            "tiny.onnx",
            "--out",
            "OUT.html",
        ),
        ("evaluate", "--annotations", A, "--images", IMAGES, "--weights", "tiny.onnx"),
    ],
    ids=" ".join,
)
def test_a_command_parses_each_file_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    parsed: Counter[Path] = Counter()
    loads: Callable[..., Any] = json.loads
    by_content = {(folder / name).read_bytes(): folder / name for name in (A, B, RESULTS)}

    def counted(content: Any, **options: Any) -> Any:
        if path := by_content.get(content):
            parsed[path] += 1
        return loads(content, **options)

    monkeypatch.setattr(io.json, "loads", counted)
    words = [word.replace("OUT", str(tmp_path / "out")) for word in command]
    words = [str(folder / word) if (folder / word).exists() else word for word in words]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert parsed == Counter(folder / name for name in (A, B, RESULTS) for word in command
                             if word == name)  # fmt: skip
