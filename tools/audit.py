"""`make check`: known weaknesses of the pinned packages, where pip-audit can reach its data.

Exits with 1 where a package has one. Where the data cannot be reached, or pip-audit is not there,
it says so in one line and exits with 0: a check must pass without a network.
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# Of the first package alone, which tells whether the data are there, and of all.
PROBE_SECONDS = 20
SECONDS = 120


def ask(requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """What pip-audit says of each pinned package, None where it says nothing in time."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        said: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return said


def reached(said: list[dict[str, Any]] | None) -> bool:
    """Whether the data know at least one of the packages."""
    return said is not None and any("skip_reason" not in package for package in said)


def main() -> int:
    """Ask for one package, then for all."""
    if find_spec("pip_audit") is None:
        print("audit: left out, pip-audit is not installed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.txt"
        one.write_text(CONSTRAINTS.read_text(encoding="utf-8").splitlines()[0] + "\n")
        said = ask(one, PROBE_SECONDS)
    said = ask(CONSTRAINTS, SECONDS) if reached(said) else None
    if said is None or not reached(said):
        print("audit: left out, the data of known weaknesses cannot be reached")
        return 0
    weak = [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no release yet'}"
        for package in said
        for found in package.get("vulns", ())
    ]
    print("\n".join(weak) or f"audit: no known weakness in {len(said)} packages")
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main())
