"""What pages of hrpose are made of: one HTML file that needs nothing else, no file, no network."""

from hrpose.pages.document import document
from hrpose.pages.pictures import source

__all__ = ["document", "source"]
