"""Formats of foreign zoos, one file each: they recognize a path, and list its members."""
