"""Detecting persons: boxes with scores, in which the estimator looks for keypoints."""

from hrpose.detection.person_detector import open_detector
from hrpose.estimator import Detector
from hrpose.geometry import Boxes

__all__ = ["Boxes", "Detector", "open_detector"]
