"""The build cache: results by the digest of their inputs, and which inputs changed. Builds nothing itself."""
