"""The build cache: results by the digest of their inputs, which inputs changed, and bases. Builds nothing itself."""
