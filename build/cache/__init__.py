"""Results of earlier runs by the digest of what they were made from, and why one is stale. Makes nothing itself."""
