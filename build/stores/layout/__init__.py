"""Repositories as image layouts in folders (image-spec image-layout.md). Tags there follow the last build."""
