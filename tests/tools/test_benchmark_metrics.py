"""The readers of `tools.benchmark_metrics`, with the tools that are installed here; it runs all."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tools.benchmark_metrics import BENCHMARKS, READERS, flat, write

from golden_rules import GOLDEN

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", BENCHMARKS)
def test_tools_measure_what_was_recorded(name: str, tmp_path: Path) -> None:
    needed = BENCHMARKS[name].environment
    if find_spec(needed) is None:
        pytest.skip(f"needs {needed}; `python -m tools.benchmark_metrics {name}` installs it")
    write(name, 0, tmp_path)
    command = [sys.executable, str(READERS), name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((GOLDEN / "benchmarks.json").read_text())[name]
    assert flat(json.loads(done.stdout)) == pytest.approx(recorded, abs=1e-9, nan_ok=True)
