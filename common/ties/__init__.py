"""A case cut into areas, and what crosses the ties between them."""
