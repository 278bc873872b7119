"""The parity check: an exported file must compute the same as the network, on real test images."""
