"""Formats of foreign zoos, one file each: what recognizes a path, and lists its members."""
