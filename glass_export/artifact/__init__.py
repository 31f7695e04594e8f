"""Artifact directories: open them with every check, write them all at once or not at all."""

from glass_export.artifact.checks import PRIOR_NAME
from glass_export.artifact.reader import CHECKSUM_NAME, Artifact
from glass_export.artifact.rewrite import write_profile
from glass_export.artifact.writer import ArtifactWriter

__all__ = ["CHECKSUM_NAME", "PRIOR_NAME", "Artifact", "ArtifactWriter", "write_profile"]
