"""An estimator over a data set: who is in its pictures, what is found, and how good that is."""

from hrpose.evaluation.people import DETECTOR, GROUND_TRUTH, check_boxes
from hrpose.evaluation.run import Report, evaluate

__all__ = ["DETECTOR", "GROUND_TRUTH", "Report", "check_boxes", "evaluate"]
