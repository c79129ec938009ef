"""Finding people in an image: boxes with scores, for the pose network to look into."""

from hrpose.detection.detector import Boxes, Detector
from hrpose.detection.factory import open_detector

__all__ = ["Boxes", "Detector", "open_detector"]
