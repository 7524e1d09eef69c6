"""Failures that a user can cause or can mend. Each message says what, where, expected, got, and what to do."""

from __future__ import annotations


class BuildError(Exception):
    """Something that the user can understand and act upon; shown as one message, never as a traceback."""


class UsageError(BuildError):
    """The command line, the environment or arches.yaml asks for something that cannot be meant."""


class CompileError(BuildError):
    """A compiler refused, or is not there. Carries the compiler's own words."""


class ElfError(BuildError):
    """A binary does not keep the promise of its row in the arch table."""


class ImageError(BuildError):
    """An image, index or Dockerfile is not what it claims to be."""


class PublishError(BuildError):
    """A registry or layout refused, contradicted us, or already holds something else under the tag."""
