"""File access: reading untrusted files, atomic writes, folder locks."""
