"""What we are made of: uv and its hashes, what is known against the packages, bills of materials, base images."""
