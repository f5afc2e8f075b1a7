"""What a training reports after each epoch: TensorBoard, a log file, and callbacks of users."""
