"""Copies releases with what refers to them, between registries, layouts and archives, without changing a byte."""
