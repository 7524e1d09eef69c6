"""The tasks: what is built, published, copied, checked, and in which order. The steps are in the rooms below."""
