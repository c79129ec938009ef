"""What was compared, on what machine, and how equal it is."""

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime

from hrpose._version import __version__

_LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "onnxruntime",
    "torch",
    "faster-coco-eval",
    "safetensors",
    "scipy",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: the greatest `difference` found `on` a library, in `unit`."""

    what: str
    on: str
    difference: float
    tolerance: float
    unit: str = ""

    @property
    def equal(self) -> bool:
        # Written so that NaN is not equal.
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Certificate:
    """All comparisons of one run; `not_run` says what could not be compared and why."""

    checks: tuple[Check, ...]
    not_run: tuple[tuple[str, str], ...] = ()

    @property
    def equal(self) -> bool:
        return bool(self.checks) and all(check.equal for check in self.checks)

    def to_json(self) -> str:
        return json.dumps(
            {
                "equal": self.equal,
                "hrpose": __version__,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "processor": platform.processor() or platform.machine(),
                "libraries": library_versions(),
                "checks": [
                    {
                        "what": check.what,
                        "on": check.on,
                        # NaN and infinity are no JSON.
                        "difference": check.difference if check.difference < 1e300 else None,
                        "tolerance": check.tolerance,
                        "unit": check.unit,
                        "equal": check.equal,
                    }
                    for check in self.checks
                ],
                "not_run": [{"what": what, "why": why} for what, why in self.not_run],
            },
            indent=2,
        )


def library_versions() -> dict[str, str]:
    """Of the libraries whose numbers are ours, those that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
