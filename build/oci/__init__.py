"""Types of the OCI specs: digests, descriptors, platforms, images, references, and a strict parser. No network."""
