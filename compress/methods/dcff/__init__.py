"""DCFF, dynamic-coded filter fusion (Lin et al., TPAMI 2023)."""
