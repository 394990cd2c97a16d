"""From a data folder to tf.Examples: finds, reads, rejects, compares and splits images. Contains no TFX component."""
