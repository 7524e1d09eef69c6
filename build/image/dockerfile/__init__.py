"""Dockerfiles that need no RUN: what they say, and the config and layers that they make. Templates are not here."""
