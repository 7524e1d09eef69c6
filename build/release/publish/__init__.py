"""Publishes images and their list: where to, under which tags, in which order. What is published is made elsewhere."""
