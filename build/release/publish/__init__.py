"""Publishes images and their list: where to, under which tags, and in which order. What is published is made elsewhere."""
