"""From a data folder to tf.Examples: what is found, read, rejected, told apart and split. No TFX component is here."""
