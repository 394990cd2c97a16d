"""A model behind TensorFlow Serving's API: the server, its client, and what a model that serves must do."""
