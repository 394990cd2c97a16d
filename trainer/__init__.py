"""Network, training and export in TensorFlow; TFX calls run_fn, preprocessing_fn and tuner_fn by dotted path."""
