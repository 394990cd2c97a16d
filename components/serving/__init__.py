"""A model behind TensorFlow Serving's API: the server, its client, and the checks that a served model must pass."""
