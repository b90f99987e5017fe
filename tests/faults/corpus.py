"""All cases, in the order of the table."""

from tests.faults.case import Case
from tests.faults.images import image_cases


def corpus() -> list[Case]:
    """Every case; their names are unique within a kind."""
    return [*image_cases()]
