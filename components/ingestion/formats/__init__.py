"""Image files: what they are, what decoding them costs, and what neither Pillow nor TensorFlow reads as needed."""
