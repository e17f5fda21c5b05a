"""Posts: what the members make, and what the worker renders from it."""
