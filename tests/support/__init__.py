"""Fixtures and helpers shared by tests."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
