"""Target formats: what a zoo can be written as."""
