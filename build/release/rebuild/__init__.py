"""Builds again what is published, from its provenance, and compares the digests; it publishes nothing."""
