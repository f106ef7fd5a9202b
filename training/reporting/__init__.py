"""The reporters of a training: its log, TensorBoard, MLflow, a picture of its curves."""
