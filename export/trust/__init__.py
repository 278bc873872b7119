"""Manifests, signatures and the checks made before a file is loaded."""
