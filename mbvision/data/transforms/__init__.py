"""From a sample on disk to a network's input. The only package that imports albumentations.

Nothing here is random by itself: the caller passes each sample's seed.
"""
