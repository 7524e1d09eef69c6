"""Proves that a program is for its arch, whatever its format: PE here, ELF next door. Compiles nothing."""
