"""TensorFlow alone; TFX calls run_fn, preprocessing_fn and tuner_fn by dotted path."""
