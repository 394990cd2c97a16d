"""What the project depends on: uv and its hashes, advisories about packages, bills of materials, base images."""
