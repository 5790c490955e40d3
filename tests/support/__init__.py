"""What tests of several packages need."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
