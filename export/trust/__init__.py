"""Manifests, signatures, and the checks before a file is loaded."""
