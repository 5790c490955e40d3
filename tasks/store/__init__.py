"""Files, tables and rows: what was computed is kept here, and not computed again."""
