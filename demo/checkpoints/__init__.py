"""The embedded checkpoints: how they are trained, and how good they are."""
