"""Image file formats: what a file is, what decoding it costs, and readers where Pillow and TensorFlow fall short."""
