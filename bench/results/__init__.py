"""Benchmark results: records, tables and differences."""
