"""Baselines: dense, scratch, l1 and random."""
