"""The measurement protocol: sessions, pairs, statistics, and the processes that measure."""
