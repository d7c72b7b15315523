"""Variants of a case, run side by side; and the studies that are shipped."""
