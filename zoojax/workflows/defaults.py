"""Default options of `reproduce`; a module without imports, so that --help shows them at once."""

# Those of the paper, and two that allow locating a crossover between 0.7 and 0.9.
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
# Those of the paper.
SPARSIFIERS = ("magnitude_pruning", "variational_dropout")
