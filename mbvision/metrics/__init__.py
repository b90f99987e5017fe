"""Scores of predictions against a data set."""
