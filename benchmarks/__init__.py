"""Programs that measure what the project claims; each writes its numbers into `benchmarks/results/`.

What may enter: a program run as `python -m benchmarks.NAME`, which prints a table and records machine,
versions, date and command beside its numbers. Nothing here is installed with the packages.
"""
