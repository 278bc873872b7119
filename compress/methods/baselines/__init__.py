"""Baselines: l1, random, scratch and dense."""
