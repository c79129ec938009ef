"""What the base install may import, that the command line starts light, and no cycles.

Which package may import which, `lint-imports` checks (pyproject.toml); that there are no cycles is
seen here.
"""

import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

from without import EXTRAS


@pytest.mark.parametrize(
    "code",
    [
        "import hrpose",
        "import hrpose.cli.main",
        "import hrpose.estimator, hrpose.viz, hrpose.image",
        "import hrpose.explain, hrpose.poses, hrpose.tables, hrpose.predict.results",
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


def test_there_are_no_cycles() -> None:
    """Imports within functions and those for types alone count, too."""
    graph = grimp.build_graph("hrpose", cache_dir=None)
    imports = {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    # Methods of `Poses` are shortcuts to these, which they import when called.
    imports["hrpose.poses"] -= {"hrpose.viz", "hrpose.tables", "hrpose.keypoint_rcnn"}
    TopologicalSorter(imports).prepare()  # raises a CycleError that names the modules
