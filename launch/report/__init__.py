"""Results in words and tables: on a terminal, as JSON, as a page."""
