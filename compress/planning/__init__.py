"""Planning: what to keep of each channel group for a ratio, width or cost target."""
