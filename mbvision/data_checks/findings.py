"""What the checks find: one `Finding` for each fault, one `Cause` for each kind of fault, and both as text and JSON."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
Box = tuple[float, float, float, float]

SHOWN = 3
"""So many files are named in a line; all of them are in the JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A kind of fault: an ``error`` spoils training or scores, a ``warning`` probably does, a ``note`` is good to know.

    ``what`` goes on from "3 times:", ``remedy`` says what to do.
    """

    severity: Severity
    what: str
    remedy: str


def _error(what: str, remedy: str) -> Cause:
    return Cause(severity="error", what=what, remedy=remedy)


def _warning(what: str, remedy: str) -> Cause:
    return Cause(severity="warning", what=what, remedy=remedy)


def _note(what: str, remedy: str) -> Cause:
    return Cause(severity="note", what=what, remedy=remedy)


CAUSES: Mapping[str, Cause] = {
    "annotations_unreadable": _error("annotation file that cannot be read", "mend it as it says, or copy it anew"),
    "picture_unreadable": _error("picture that cannot be read", "copy it anew, or take it out of the split"),
    "mask_unreadable": _error("mask that cannot be read", "export it as a gray or palette PNG"),
    "wrong_size": _error("picture of another size than its annotation", "correct the annotation, or the picture"),
    "mask_values": _error("mask with values of no class", "correct the mask, or the list of classes"),
    "mask_colours": _error("mask in colours of no class", "save class indices, or give the classes' colours"),
    "masks_of_one_class": _error("split whose masks hold fewer than two classes", "see what it says"),
    "train_ids": _error(
        "mask of train ids in a file of label ids", "name it _labelTrainIds.png, or write label ids into it"
    ),
    "no_box": _error("object without four finite numbers for a box: it is left out", "draw its box, or delete it"),
    "unknown_picture": _error("box of a picture that the file does not list: it is left out", "list the picture"),
    "unknown_category": _error("box of a category that the file does not list: it is left out", "list the category"),
    "box_empty": _error("box without area: it does not train", "draw it anew, or delete it"),
    "box_outside": _error("box wholly outside its picture: it does not train", "draw it anew, or delete it"),
    "box_twice": _error("box that is there twice", "delete one: a detector can find the object only once"),
    "classes_differ": _error("class that is in one split's list alone", "give both splits the same classes"),
    "class_untrained": _error("class in validation that training never shows", "add examples, or drop the class"),
    "same_picture_across": _error(
        "picture that is in training and in validation", "take it out of one of them: scores are too good with it"
    ),
    "same_picture_other_labels": _warning("picture that is there twice, labelled differently", "keep the better one"),
    "same_picture": _warning("picture that is there twice in a split", "keep one"),
    "listed_twice": _warning("picture file that the annotations list twice", "join the two records"),
    "shared_id": _warning("annotation id that several objects have", "number the annotations anew"),
    "corners_exchanged": _warning("box with min and max exchanged: it was put right", "see that it fits the object"),
    "box_overhang": _warning("box more than 1 pixel over its picture: it is clipped", "see that it fits the object"),
    "box_nearly_twice": _warning("box that is nearly the same as another of its class", "delete one of the two"),
    "box_of_two_classes": _warning("box that has two classes", "delete the wrong one"),
    "one_pixel_box": _warning("box of at most 1 pixel in width or height", "draw it anew, or delete it: a slip"),
    "starts_at_1": _warning("boxes that count pixels from 1", "subtract 1 from x and y: COCO counts from 0"),
    "ends_short": _warning("boxes that end 1 pixel short", "add 1 to width and height: VOC's xmax is inside the box"),
    "ends_1_outside": _warning("box that ends exactly 1 pixel outside", "subtract 1 from x and y, or from its size"),
    "starts_at_minus_1": _warning("VOC box that starts at 0", "add 1 to its corners: VOC counts from 1"),
    "exif_stored": _warning(
        "picture annotated as it is stored, not as its EXIF orientation shows it: it is read unrotated",
        "save it upright, without EXIF, and annotate that",
    ),
    "exif_unclear": _warning(
        "picture with an EXIF orientation whose annotation may be meant for either frame: it is read upright",
        "look at it in pictures=; save it upright, without EXIF",
    ),
    "blank_picture": _warning("picture of a single colour", "take it out of the split"),
    "mask_ignored": _warning("mask that is ignored as a whole", "draw it, or take the picture out of the split"),
    "class_idle": _warning(
        "class of whose boxes none trains: all are crowds, difficult, empty or outside",
        "set iscrowd or difficult to 0 where it does not mean a group, or an object that is hard to see",
    ),
    "class_starved": _warning("class with too little to learn from", "add examples, or join it with another class"),
    "out_of_reach": _warning(
        "class whose boxes the anchors do not reach",
        "take other anchors, a finer level or a larger input_size=: see below",
    ),
    "reader": _warning("thing that the reader left out or changed", "see what it says"),
    "class_unscored": _note("class that validation never shows: it is not scored", "add examples to validation"),
    "class_unused": _note("class that nothing has", "fine, unless it should have some"),
}
"""Every cause, most serious first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault. ``file`` and ``object`` say where, ``picture`` is its place in the split's reader.

    ``boxes`` are those at fault, ``x1 y1 x2 y2`` in pixels of the picture; they may lie outside it.
    """

    cause: str
    split: str
    file: str
    object: str = ""
    detail: str = ""
    picture: int | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def place(self) -> str:
        """Short: the file without its folders, and the object; of a class its name alone."""
        if self.cause.startswith("class"):
            return self.object
        return f"{PurePath(self.file).name} {self.object}".rstrip()


def by_cause(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The findings of each cause that has any, most serious cause first."""
    groups: dict[str, list[Finding]] = {cause: [] for cause in CAUSES}
    for finding in findings:
        groups[finding.cause].append(finding)
    return {cause: group for cause, group in groups.items() if group}


def summary_lines(findings: Sequence[Finding]) -> list[str]:
    """One line a cause: how serious, how often, what, in which splits and files, and the remedy."""
    lines = []
    for name, group in by_cause(findings).items():
        cause = CAUSES[name]
        splits = Counter(finding.split for finding in group)
        where = ", ".join(f"{split} {count}" for split, count in splits.items())
        first = [f.place + (f" ({f.detail})" if f.detail else "") for f in group[:SHOWN]]
        more = ", ..." if len(group) > SHOWN else ""
        lines.append(
            f"{cause.severity:<8}{len(group):>6}  {cause.what} [{where}]: {', '.join(first)}{more}; {cause.remedy}"
        )
    return lines


def counted(findings: Iterable[Finding]) -> str:
    """How many there are of each severity: ``2 errors, 1 warning``; "nothing" for none."""
    counts = Counter(CAUSES[finding.cause].severity for finding in findings)
    order: tuple[Severity, ...] = ("error", "warning", "note")
    parts = [f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in order if counts[s]]
    return ", ".join(parts) or "nothing"


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """``summary``, an entry a cause, and ``findings``, every one of them, most serious first."""
    groups = by_cause(findings)
    return {
        "summary": [
            {
                "cause": name,
                "severity": CAUSES[name].severity,
                "what": CAUSES[name].what,
                "remedy": CAUSES[name].remedy,
                "count": len(group),
                "by_split": dict(Counter(finding.split for finding in group)),
            }
            for name, group in groups.items()
        ],
        "findings": [_plain(finding) for group in groups.values() for finding in group],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "severity": CAUSES[finding.cause].severity,
        "split": finding.split,
        "file": finding.file,
        "object": finding.object,
        "detail": finding.detail,
        "boxes": [[value if math.isfinite(value) else None for value in box] for box in finding.boxes],
    }
