"""Flow matching for conditional point clouds: torch in, torch out."""
