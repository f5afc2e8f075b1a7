"""Target formats that a zoo can be written in."""
