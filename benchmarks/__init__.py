"""Measurements beside torchvision's and pycocotools' own code; see README.md."""
