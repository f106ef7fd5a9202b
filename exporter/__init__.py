"""The bridge from torch to ONNX: a run directory in, a verified bundle out."""

from contract import usage_reports

usage_reports.turn_off()
