"""Where a run's metrics go: its own files, TensorBoard, Weights & Biases, MLflow."""
