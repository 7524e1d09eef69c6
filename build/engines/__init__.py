"""Builds images from binaries and publishes them, in Python or in a Docker daemon. Compiles nothing."""
