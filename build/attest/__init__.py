"""SBOM, provenance and signatures of what is published, and the rebuild that proves them; stores hold them."""
