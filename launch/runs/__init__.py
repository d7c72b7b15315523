"""A case from its folder to a checked result."""
