"""The house as docs/architecture.md draws it: its floors, and what the base install may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hrpose

PACKAGE = Path(hrpose.__file__).parent

# The ground floor is one room. Above it, rooms of one floor do not know each other.
FLOORS = (
    {
        "_version",
        "skeleton",
        "geometry",
        "heatmap",
        "codec",
        "poses",
        "image",
        "errors",
        "passport",
        "finder_passport",
        "encoding",
        "files",
        "onnx_file",
        "tables",
        "yaml_file",
        "adapters",
        "ahead",
    },
    {"network", "data", "synthetic"},
    {"metrics", "drawing", "pages", "weights"},
    {"detection"},
    {"runtime"},
    {"training", "evaluation", "onnx_export", "video", "explain", "archives"},
    {"api", "analysis", "inspection", "quantization", "verification"},
    {"serve"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The front door opens every room, lazily.
OUTSIDE = {"__init__", "__main__"}

# Comes with the extras, so it must not be needed to import or to predict.
EXTRAS = (
    "av",
    "fastapi",
    "faster_coco_eval",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "lightning",
    "msgspec",
    "onnx",
    "onnxscript",
    "pandas",
    "pyarrow",
    "pydantic",
    "ray",
    "safetensors",
    "scipy",
    "tensorboard",
    "torch",
    "yaml",
)


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(file: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of this package, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write the import from hrpose on"
            names = (
                [f"hrpose.{alias.name}" for alias in node.names]
                if node.module == "hrpose"
                else [node.module or ""]
            )
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "hrpose" and len(parts) > 1:
                yield node.lineno, parts[1]


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if room_of(file) not in OUTSIDE]


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES} <= FLOOR.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_come_from_lower_floors(file: Path) -> None:
    room = room_of(file)
    for line, other in imported_rooms(file):
        if other in FLOOR and other != room:
            allowed = FLOOR[other] < FLOOR[room] or FLOOR[other] == FLOOR[room] == 0
            assert allowed, f"line {line}: {room} (floor {FLOOR[room]}) imports {other}"


@pytest.mark.parametrize(
    "code",
    [
        "import hrpose",
        "import hrpose.cli.main",
        "import hrpose.runtime.estimator, hrpose.drawing, hrpose.image",
        "import hrpose.explain, hrpose.tables, hrpose.adapters, hrpose.cli.outputs",
        "import hrpose; hrpose.load, hrpose.PoseEstimator, hrpose.Poses, hrpose.Skeleton",
        "import hrpose; hrpose.Crop, hrpose.draw, hrpose.UserError",
        "import hrpose, numpy as np; hrpose.load('w16-small')(np.zeros((64, 48, 3), np.uint8))",
    ],
)
def test_predicting_needs_only_the_base_install(code: str) -> None:
    # An entry of None makes an import fail, as on a machine without the package.
    block = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); "
    done = subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_light() -> None:
    # `--help` and a misspelt option must not wait for libraries that only the work needs.
    code = (
        "import sys, hrpose.cli.main; sys.exit(bool({'numpy', 'cv2', 'PIL'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
