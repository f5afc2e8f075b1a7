"""Hyperparameters of members: one declaration each, from which all packages derive the rest."""
