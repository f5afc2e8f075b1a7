"""Default options of the paper; a module without imports, so that --help shows them at once."""

PAPER_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
