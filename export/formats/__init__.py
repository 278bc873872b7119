"""Export formats, one file a runtime."""
