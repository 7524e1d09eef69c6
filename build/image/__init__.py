"""Turns a Dockerfile and a binary into the bytes of an image, and reads them back. Where they are kept is elsewhere."""
