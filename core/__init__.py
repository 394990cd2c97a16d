"""What all other packages share. It imports none of them, and most of it works without TensorFlow."""
