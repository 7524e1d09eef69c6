"""Turns C sources into a proved binary: zig, kube-cross or the gcc of the host. Knows nothing of images."""
