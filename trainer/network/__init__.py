"""InceptionV3 and its head as a TF1 graph, and the model_fn."""
