"""Members of the studio."""
