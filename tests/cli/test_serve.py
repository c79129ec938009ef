"""The options of `hrpose serve`; tests/serve runs it."""

from hrpose.cli.serve import MOST_MEGABYTES, MOST_MEGAPIXELS
from hrpose.image import MAX_BYTES, MAX_PIXELS


def test_what_can_be_allowed_is_what_can_be_read() -> None:
    assert (MOST_MEGABYTES, MOST_MEGAPIXELS) == (MAX_BYTES / 1e6, MAX_PIXELS / 1e6)
