"""Architectures: chains of layers, the networks of published zoos, and any Linen module."""
