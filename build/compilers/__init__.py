"""Compiles C programs with zig, kube-cross or the host's gcc, and checks their ELF headers. Has no part in images."""
