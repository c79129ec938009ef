"""What all tests share."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes says nothing on a shared machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HRPOSE_SHARED", ROOT.parent / "shared"))

# OpenVINO may be installed here or not; tests of engines name the device.
os.environ["HRPOSE_PRECISION"] = "fp32"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Playwright's Chromium, the system's. A test that asks for it carries the mark `browser`."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)
        )
        yield launched
        launched.close()


@pytest.fixture
def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of the weights that a test has loaded, in their order."""
    from hrpose import api

    sizes, load = [], api.load

    def noted(*arguments: Any, **options: Any) -> Any:
        sizes.append(options["batch_size"])
        return load(*arguments, **options)

    monkeypatch.setattr(api, "load", noted)
    return sizes


@pytest.fixture(scope="session")
def shared() -> Path:
    """The data folder beside the repository. A test that asks for it carries the mark `shared`."""
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="needs the data folder ../shared, or HRPOSE_SHARED")
    for item in items:
        marked = item.get_closest_marker("shared") is not None
        if "shared" in getattr(item, "fixturenames", ()) and not marked:
            raise pytest.UsageError(f"{item.nodeid}: uses ../shared without the mark `shared`")
        if marked and not SHARED.is_dir():
            item.add_marker(missing)
    # Files with the longest tests first, so that no process is left alone with one at the end.
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: -slow[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests did not run and why, so that a green run does not hide them."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        if isinstance(report.longrepr, tuple)
        else str(report.longrepr)
        for report in skipped
    )
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} not run: {reason}")
