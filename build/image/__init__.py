"""Assembles an image from a Dockerfile and a binary, and reads image layers. Storing images is done in stores."""
