"""An estimator over a data set: who is in its pictures, what is found, and how good that is."""

from hrpose.evaluation.people import DETECTOR, GROUND_TRUTH
from hrpose.evaluation.run import Report, evaluate

__all__ = ["DETECTOR", "GROUND_TRUTH", "Report", "evaluate"]
