"""Makes an image from a binary and brings it to a store, embedded or through the Docker daemon. Does not compile."""
