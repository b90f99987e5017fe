"""Pictures in, predictions in the picture's own pixels out."""
