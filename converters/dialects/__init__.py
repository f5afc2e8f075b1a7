"""Dialects of torch state dicts: invertible transforms to the plain form."""
