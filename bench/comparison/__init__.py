"""Several methods side by side on one network, data set and target."""
