"""Pictures of faces: what is known of each, who it shows, and which pairs verification compares."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from mbvision.data.base import Reader
from mbvision.data.images import MAX_PIXELS, read_image
from mbvision.errors import DataError
from mbvision.structures import AttributeAnnotations, Geometry, IdentityAnnotations, Sample, Target

MOST_PAIRS = 200_000
"""Up to so many pairs a set is compared whole; of more, half of them are drawn from each kind (same, different)."""
_PAIR_SEED = 0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceAnnotations:
    """All that is known of a set: its attributes, its identities, or both; in the order of the pictures."""

    attributes: AttributeAnnotations | None = None
    identities: IdentityAnnotations | None = None

    def truth(self) -> dict[str, Any]:
        """What there is, by task."""
        known = {"attributes": self.attributes, "embedding": self.identities}
        return {task: annotations for task, annotations in known.items() if annotations is not None}


class FaceReader(Reader):
    """Pictures with their attributes, their identities, or both; ``files`` lie inside ``folder``.

    Files that are links to outside of it are read with ``follow_links`` alone: where the folder's own listing names
    them, not a text file.
    """

    def __init__(
        self,
        *,
        folder: Path,
        files: Sequence[str],
        annotations: FaceAnnotations,
        follow_links: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.folder, self.files, self.max_pixels = folder, tuple(files), max_pixels
        self.follow_links = follow_links
        self.annotations = annotations
        self.class_names: Mapping[str, Sequence[str]] = {
            task: known.names for task, known in annotations.truth().items()
        }

    def __len__(self) -> int:
        return len(self.files)

    @property
    def truth(self) -> Mapping[str, Any]:
        """`AttributeAnnotations` and `IdentityAnnotations`."""
        return self.annotations.truth()

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self.folder / self.files[index]

    def read(self, index: int) -> Sample:
        """One picture; raises ``ImageError``."""
        path = self.path(index)
        image = read_image(path, root=None if self.follow_links else self.folder, max_pixels=self.max_pixels)
        attributes, identities = self.annotations.attributes, self.annotations.identities
        target = Target(
            image_id=self.files[index],
            geometry=Geometry(original=(image.shape[0], image.shape[1])),
            attributes=None if attributes is None else torch.from_numpy(attributes.values[index].copy()),
            identity=None if identities is None else int(identities.identities[index]),
        )
        return Sample(image=image, target=target, path=str(path))

    def for_tasks(self, tasks: Collection[str], network: Mapping[str, Sequence[str]]) -> "FaceReader":
        """The same pictures with the annotations of these tasks alone.

        ``network`` has a network's class names by task. Raises `DataError` where its attributes are others; its
        identities may be: embeddings are for people whom the network has never seen.
        """
        known = FaceAnnotations(
            attributes=self.annotations.attributes if "attributes" in tasks else None,
            identities=self.annotations.identities if "embedding" in tasks else None,
        )
        reader = FaceReader(
            folder=self.folder,
            files=self.files,
            annotations=known,
            follow_links=self.follow_links,
            max_pixels=self.max_pixels,
        )
        if names := network.get("attributes"):
            _check_attributes(reader.class_names.get("attributes", names), names, self.folder)
        if "embedding" in reader.class_names and "embedding" in network:
            seen = set(reader.class_names["embedding"]) & set(network["embedding"])
            if seen:
                _logger.warning(
                    "%s: %d of its %d identities are among those that the network was trained on, such as %s: "
                    "verification will flatter it",
                    self.folder,
                    len(seen),
                    len(reader.class_names["embedding"]),
                    min(seen),
                )
            reader.class_names = {**reader.class_names, "embedding": tuple(network["embedding"])}
        return reader


def _check_attributes(own: Sequence[str], network: Sequence[str], folder: Path) -> None:
    if list(own) != list(network):
        raise DataError(
            f"{folder}: its attributes are {list(own)}, the network's {list(network)}: they must be the same, in order"
        )


def identity_annotations(
    names: Sequence[str], image_ids: Sequence[str], identities: Sequence[int]
) -> IdentityAnnotations:
    """Identities whose pairs are all there are, or `MOST_PAIRS` drawn ones; the same for the same pictures."""
    numbers = np.asarray(identities, dtype=np.int64)
    pairs, same = pairs_of(numbers)
    return IdentityAnnotations(
        names=tuple(names),
        image_ids=tuple(image_ids),
        identities=numbers,
        pairs=pairs,
        same=same,
        folds=np.zeros(len(pairs), dtype=np.int64),
    )


def pairs_of(
    identities: Int[np.ndarray, " I"], most: int = MOST_PAIRS
) -> tuple[Int[np.ndarray, "P 2"], Bool[np.ndarray, " P"]]:
    """All pairs of pictures and whether they show one identity; of more than ``most`` pairs, a drawn half of each."""
    count = len(identities)
    if count * (count - 1) // 2 <= most:
        pairs = np.stack(np.triu_indices(count, 1), axis=1).astype(np.int64)
        return pairs, identities[pairs[:, 0]] == identities[pairs[:, 1]]
    rng = np.random.default_rng(_PAIR_SEED)
    alike = _same_pairs(identities, most // 2, rng)
    drawn = rng.integers(0, count, (2 * most, 2))
    unlike = np.sort(drawn[identities[drawn[:, 0]] != identities[drawn[:, 1]]], axis=1)
    unlike = np.unique(unlike, axis=0)
    if len(unlike) > most // 2:
        unlike = unlike[np.sort(rng.choice(len(unlike), most // 2, replace=False))]
    return np.concatenate([alike, unlike]), np.arange(len(alike) + len(unlike)) < len(alike)


def _same_pairs(identities: Int[np.ndarray, " I"], most: int, rng: np.random.Generator) -> Int[np.ndarray, "P 2"]:
    """The pairs of one identity, in order of their images; of more than ``most`` so many drawn ones.

    Pairs are numbered by counting, for a training split has hundreds of millions of them: image i is the first of as
    many as there are later images of its identity.
    """
    order = np.argsort(identities, kind="stable")  # identity by identity, images rising
    ends = np.cumsum(np.bincount(identities))
    rank = np.empty_like(order)  # the place of each image in that order
    rank[order] = np.arange(len(order))
    later = ends[identities] - rank - 1
    until = np.cumsum(later)
    total = int(until[-1]) if len(until) else 0
    numbers = np.arange(total) if total <= most else np.sort(rng.choice(total, most, replace=False))
    first = np.searchsorted(until, numbers, side="right")
    second = order[rank[first] + 1 + numbers - (until - later)[first]]
    return np.stack([first, second], axis=1)
