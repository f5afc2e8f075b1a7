"""Benchmarks of `zoojax bench`: zoojax compared with PyTorch and plain JAX."""
