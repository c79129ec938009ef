"""`make check`: known vulnerabilities of the pinned packages, if pip-audit can reach its data.

Exits with 1 if a package has one. If the data cannot be reached, or pip-audit is not installed,
it prints one line and exits with 0: the check must pass without a network.
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# For the first package alone, which shows whether the data can be reached, and for all.
PROBE_SECONDS = 20
SECONDS = 120


def ask(requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """The report of pip-audit for each pinned package; None if there is none in time."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return packages


def reached(packages: list[dict[str, Any]] | None) -> bool:
    """Whether the report covers at least one package."""
    return packages is not None and any("skip_reason" not in package for package in packages)


def main() -> int:
    """Check one package, then all."""
    if find_spec("pip_audit") is None:
        print("audit: skipped, pip-audit is not installed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.txt"
        one.write_text(CONSTRAINTS.read_text(encoding="utf-8").splitlines()[0] + "\n")
        packages = ask(one, PROBE_SECONDS)
    packages = ask(CONSTRAINTS, SECONDS) if reached(packages) else None
    if packages is None or not reached(packages):
        print("audit: skipped, the data cannot be reached")
        return 0
    vulnerable = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no release yet'}"
        for package in packages
        for found in package.get("vulns", ())
    ]
    print("\n".join(vulnerable) or f"audit: no known vulnerability in {len(packages)} packages")
    return int(bool(vulnerable))


if __name__ == "__main__":
    sys.exit(main())
