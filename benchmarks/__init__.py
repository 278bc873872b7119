"""Programs that measure compress; each writes its numbers to `benchmarks/results/`.

Each program is run as `python -m benchmarks.NAME`, prints a table, and records machine, versions, date and
command with its numbers. Nothing here is installed with the package.
"""
