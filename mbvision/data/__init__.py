"""Data sets on disk, one format a file."""
