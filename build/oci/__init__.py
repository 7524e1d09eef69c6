"""The values of the OCI specs: digests, descriptors, platforms, images, references, and the strict parser. No I/O."""
