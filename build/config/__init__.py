"""The contents of arches.yaml, and the revision of the checkout. Flags and the environment are read in cli."""
