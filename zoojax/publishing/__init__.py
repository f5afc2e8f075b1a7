"""Publishes zoos as datasets: folders with a dataset card, Croissant metadata and checksums."""
