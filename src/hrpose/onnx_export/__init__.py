"""Trained weights to one ONNX file that needs neither PyTorch nor hrpose to be read rightly."""

from hrpose.onnx_export.choice import export
from hrpose.onnx_export.finder import FinderReport, export_finder
from hrpose.onnx_export.pose import ExportReport
from hrpose.onnx_export.pose import export as export_pose

__all__ = ["ExportReport", "FinderReport", "export", "export_finder", "export_pose"]
