"""The bridge from torch to ONNX: a run directory in, a verified bundle out."""
