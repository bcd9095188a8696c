"""The benchmark: this project beside the plain way, on one machine and the same recordings."""
