"""An estimator over a data set: who is in its pictures, what is found, and how good that is."""

from hrpose.evaluation.run import DETECTOR, GROUND_TRUTH, Report, evaluate

__all__ = ["DETECTOR", "GROUND_TRUTH", "Report", "evaluate"]
