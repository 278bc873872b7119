"""Deployment of an exported file: inference script, signature and Triton model repository."""
