"""Callbacks that report each epoch of training: TensorBoard and a log file."""
