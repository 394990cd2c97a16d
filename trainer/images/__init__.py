"""Images as tensors: decoding, including that of untrusted bytes, and augmentation."""
