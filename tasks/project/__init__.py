"""The project in its folder: DVC, the lock, settings for one run, what the next run would do."""
