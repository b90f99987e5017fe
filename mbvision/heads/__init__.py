"""Feature maps to raw outputs."""
