"""What a whole command does, as a function: analyzing, reproducing the paper, describing a zoo.

Each function has the options of its command, with the same names and defaults.
"""
