"""Training the Estimator: its input, loop and checkpoints, resuming and warm starts."""
