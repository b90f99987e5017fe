"""What of a graph lies between its layers: there 8 bits belong, and nowhere else."""

from collections.abc import Collection, Iterable


def inside(layers: Collection[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """The layers and all that lies between two of them, in a graph of named nodes with edges from one to its user."""
    onwards = list(edges)
    back = [(user, maker) for maker, user in onwards]
    return (reached(layers, onwards) & reached(layers, back)) | set(layers)


def reached(starts: Collection[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes to which edges lead from the starts."""
    users: dict[str, list[str]] = {}
    for maker, user in edges:
        users.setdefault(maker, []).append(user)
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        for user in users.get(waiting.pop(), []):
            if user not in found:
                found.add(user)
                waiting.append(user)
    return found
