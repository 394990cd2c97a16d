"""Images as tensors: decoding, also of untrusted bytes, and augmentation."""
