"""Where the pictures of a source are, when nobody says it."""

from pathlib import Path

from hrpose.data.formats.people import Given
from hrpose.data.pictures import PictureSource, pictures_beside


def beside(source: Path, given: Given) -> PictureSource:
    """The given pictures, else `images` or `images.zip` beside the source, else its own folder."""
    folder = source if source.is_dir() else source.parent
    return given.images or pictures_beside(source) or PictureSource(folder)
