"""SBOMs of images in SPDX, through spdx-tools."""
