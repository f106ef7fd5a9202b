"""Checks that every model must pass: those of the catalogue in the tests, and a model of one's own by one command.

`python -m exporter.check RECIPE` runs them, and compares torch with ONNX Runtime.
"""
