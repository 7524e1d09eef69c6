"""What the checkout says: arches.yaml and the revision, as values. Flags and environment are read elsewhere."""
