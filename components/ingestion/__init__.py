"""From a data folder to tf.Examples: what is found, read, rejected, compared and split. No TFX component is here."""
