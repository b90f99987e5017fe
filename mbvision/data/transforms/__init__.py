"""From a sample on disk to a network's input. The only package that imports albumentations.

Nothing here is random by itself: the caller passes each sample's seed.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the package index for news at import
