"""Publishes zoos as data sets: folders with a data set card, Croissant metadata and checksums."""
