"""Image to named feature maps."""
