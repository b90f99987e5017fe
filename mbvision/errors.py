"""The errors a user can cause. Each says in one line what is wrong, where, and what to do about it."""


class MBVisionError(Exception):
    """A mistake in what the user gave us; commands print it without a traceback and exit with code 2."""


class ConfigError(MBVisionError):
    """A key or a value of the configuration makes no sense."""


class DataError(MBVisionError):
    """A data set is missing, or its layout is not the expected one."""


class ImageError(DataError):
    """One picture cannot be read."""


class VideoError(DataError):
    """One video cannot be read, or cannot be written."""


class AnnotationError(DataError):
    """An annotation file, or one record of it, cannot be used."""


class SizeMismatchError(AnnotationError):
    """A picture is not as large as its annotation or its mask."""


class MaskValueError(AnnotationError):
    """A mask holds values that belong to no class."""


class MaskColourError(AnnotationError):
    """A mask is drawn in colours that say no class."""


class CheckpointError(MBVisionError):
    """A weight file cannot be read, or does not fit the network."""


class TrainingError(MBVisionError):
    """Training cannot go on: the loss is not finite, or the set-up cannot work."""
