"""Deployment: inference script and Triton model repository."""
