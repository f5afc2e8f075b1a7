"""Dialects of torch state dicts: small transforms to the plain form, which can be undone."""
