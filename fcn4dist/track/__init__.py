"""A run in TensorBoard, MLflow, SwanLab or W&B: one follower of what it writes, and one small file a tracker."""
