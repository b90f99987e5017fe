"""What a head's output means: loss, predictions, metric."""
