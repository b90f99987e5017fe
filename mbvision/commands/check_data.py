"""``check_data``: everything wrong or suspicious in a data set, by file and object, without a model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.places import check_writable
from mbvision.commands.typed import as_typed
from mbvision.errors import AnnotationError, ConfigError, DataError, ImageError
from mbvision.writing import replace_text

if TYPE_CHECKING:
    from mbvision.data.base import Reader
    from mbvision.data_checks.findings import Finding
    from mbvision.data_checks.reach_checks import HeadAnchors, Reach

HELP = """\
Go over a data set without a model: python tools/check_data.py data=coco data.root=FOLDER output=report.json

  data=scenes             coco, voc, cityscapes, camvid, masks_folder, image_folder, ..., and every key of it:
                          data.root= data.images= data.train_split= data.val_split= (null leaves it out) data.sets=
  task=lraspp             the labels to check; default: the data set's first kind (boxes, masks or classes).
                          'task=[ssdlite,lraspp]': boxes and masks
  images=false            the annotations alone, in seconds; else every picture is read as training reads it
  output=FILE.json        every finding: cause, split, file, object, detail, boxes; and the recall of the anchors
  pictures=FILE.png       a page of pictures of the worst
  input_size=320          and fit=, backbone=, heads.detection.anchors.*, experiment=: what the anchors are judged for
  loader.workers=2        pictures that are read at a time

Exit code 0 when all was gone over, whatever was found; 3 when an annotation file could not be read, so that what it
describes was not checked; 2 for a mistake in the keys. The data set is never changed."""

SPLITS = ("train", "val")


def main(arguments: Sequence[str]) -> int:
    """Check each set, print a summary, write what was asked for."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    config = compose_config("check_data", arguments)
    _check(config)
    chosen = any(a.partition("=")[0] in ("task", "experiment") or a.startswith("heads.") for a in arguments)
    results = []
    for data in config["data"]["sets"] or [config["data"]]:
        tasks = (
            [task for task in data["readers"] if task in config["heads"]] if chosen else [next(iter(data["readers"]))]
        )
        if not tasks:
            raise ConfigError(f"task: the set in {data['root']} has labels for {', '.join(data['readers'])} alone")
        results.append(SetCheck({**config, "data": {**data, "sets": None}}, tasks))
    for result in results:
        result.run()
    for result in results:
        result.compare([other for other in results if other is not result])
        print("\n".join(result.lines()))
    if config["output"]:
        replace_text(Path(config["output"]), json.dumps(_report(results), indent=1))
        print(f"written: {config['output']}")
    if config["pictures"]:
        _draw(results, Path(config["pictures"]))
    return 0 if all(result.complete for result in results) else 3


class SetCheck:
    """One data set: what is read of it, and what was found."""

    def __init__(self, config: Mapping[str, Any], tasks: Sequence[str]) -> None:
        self.config, self.data, self.tasks = config, config["data"], tasks
        self.sources = {s: f"{self.data['root']} {self.data[f'{s}_split']}" for s in SPLITS if self.data[f"{s}_split"]}
        if not self.sources:
            raise ConfigError("data.train_split=null and data.val_split=null: name a split to check")
        self.readers: dict[str, Reader] = {}
        self.findings: list[Finding] = []
        self.head: HeadAnchors | None = None
        self.reach: Reach | None = None
        self.seen: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """Whether every annotation file could be read."""
        return not any(finding.cause == "annotations_unreadable" for finding in self.findings)

    def run(self) -> None:
        """Read the annotations and check them, then the pictures."""
        from mbvision.commands.data_report import head_anchors, meta_network  # slow to import
        from mbvision.data_checks.check_set import check_annotations, check_pictures
        from mbvision.data_checks.same_files import check_same_files

        if "detection" in self.tasks:
            self.head = head_anchors(self.config, meta_network(self.config))
        for split in self.sources:
            self._read(split)
        truths = {split: reader.truth for split, reader in self.readers.items()}
        report = check_annotations(truths, self.sources, self.head)
        self.findings += report.findings
        self.reach = report.reach
        self.findings += check_same_files(self.readers, self.readers)
        if self.config["images"] and self.readers:
            workers = self.config["loader"]["workers"]
            pictures = check_pictures(self.readers, self.sources, workers=workers, progress=True)
            known = {(f.cause, f.split, f.picture) for f in self.findings if f.cause == "same_picture_across"}
            self.findings += [f for f in pictures.findings if (f.cause, f.split, f.picture) not in known]
            self.seen = pictures.seen

    def compare(self, others: "Sequence[SetCheck]") -> None:
        """Find the validation images that are training images of other sets."""
        from mbvision.data_checks.same_files import check_same_files

        self.findings += [found for other in others for found in check_same_files(self.readers, other.readers)]

    def _read(self, split: str) -> None:
        from mbvision.build import build_reader
        from mbvision.data_checks.check_set import warnings_of_readers
        from mbvision.data_checks.file_checks import coco_boxes

        with warnings_of_readers(split, self.sources[split]) as told:
            try:
                if self._needs_no_pictures():
                    self.readers[split] = coco_boxes(self.data, self.data[f"{split}_split"])
                else:
                    self.readers[split] = build_reader(self.data, f"{split}_split", tasks=self.tasks)
            except (AnnotationError, ImageError) as error:
                told += self._unreadable(split, error)
        self.findings += told

    def _needs_no_pictures(self) -> bool:
        """COCO's reader looks for the folder of the pictures; annotations can be checked without."""
        return not self.config["images"] and self._is_read_by("mbvision.data.coco.coco")

    def _is_read_by(self, target: str) -> bool:
        return self.tasks == ["detection"] and self.data["readers"]["detection"]["_target_"] == target

    def _unreadable(self, split: str, error: DataError) -> "list[Finding]":
        """The file that stopped the reader; of VOC's files, one a picture, all that would: the others are read."""
        from mbvision.data_checks.file_checks import readable_voc
        from mbvision.data_checks.findings import Finding

        messages = [str(error)]
        if self._is_read_by("mbvision.data.voc.voc"):
            images = self.data["images"]
            name: str = self.data[f"{split}_split"]
            reader, found = readable_voc(Path(self.data["root"]), name, Path(images) if images else None)
            messages = found or messages
            if reader is not None:
                self.readers[split] = reader
        parts = [message.partition(": ") for message in messages]
        return [Finding(cause="annotations_unreadable", split=split, file=f, detail=d) for f, _, d in parts]

    def lines(self) -> list[str]:
        """What is printed: what was read, a line a cause, and what the anchors reach."""
        from mbvision.data_checks.findings import counted, summary_lines
        from mbvision.data_checks.reach_checks import reach_lines

        lines = [f"{self.data['root']} ({', '.join(self.tasks)})"]
        for split in self.sources:
            lines.append(f"  {split:<6}{self.data[f'{split}_split']}: {self._size(split)}")
        lines += ["", *summary_lines(self.findings)]
        if self.reach is not None and self.head is not None:
            lines += ["", *reach_lines(self.reach, self.head)]
        return [*lines, "", f"found: {counted(self.findings)}"]

    def _size(self, split: str) -> str:
        from mbvision.data_checks.class_checks import amount, id_gaps
        from mbvision.data_checks.split_counts import training_text
        from mbvision.structures import BoxAnnotations

        if split not in self.readers:
            return "could not be read"
        reader = self.readers[split]
        parts = [amount(len(reader), "pictures") + ("" if split in self.seen else ", not opened")]
        boxes = reader.truth.get("detection")
        if isinstance(boxes, BoxAnnotations):
            empty = int((boxes.offsets[1:] == boxes.offsets[:-1]).sum())
            parts.append(f"{amount(len(boxes.labels), 'boxes')} of {amount(len(boxes.class_names), 'classes')}")
            parts.append(f"of which {training_text(boxes)}")
            parts += [f"pictures without a box: {empty}"] * bool(empty)
            gaps = [str(a) if a == b else f"{a} to {b}" for a, b in id_gaps(boxes)]
            parts += [f"category ids without {', '.join(gaps[:10])}{', ...' * (len(gaps) > 10)}"] * bool(gaps)
        return ", ".join(parts)

    def _gaps(self) -> list[tuple[int, int]]:
        from mbvision.data_checks.class_checks import id_gaps
        from mbvision.structures import BoxAnnotations

        tables = [reader.truth.get("detection") for reader in self.readers.values()]
        return sorted({gap for table in tables if isinstance(table, BoxAnnotations) for gap in id_gaps(table)})

    def about(self) -> dict[str, Any]:
        """What was read, and what the anchors reach."""
        from mbvision.data_checks.reach_checks import reach_json

        anchors = None if self.reach is None or self.head is None else reach_json(self.reach, self.head)
        return {
            "data": str(self.data["root"]),
            "tasks": list(self.tasks),
            "splits": {split: self.data[f"{split}_split"] for split in self.sources},
            "pictures": {split: len(reader) for split, reader in self.readers.items()},
            "pictures_opened": self.seen,
            "category_id_gaps": self._gaps(),
            "anchors": anchors,
        }


def _report(results: Sequence[SetCheck]) -> dict[str, Any]:
    """``summary`` and ``findings`` of all sets, and ``sets``, what was read of each."""
    from mbvision.data_checks.findings import as_json

    parts = [(str(result.data["root"]), as_json(result.findings)["findings"]) for result in results]
    return {
        "summary": as_json([finding for result in results for finding in result.findings])["summary"],
        "findings": [{**finding, "data": root} for root, findings in parts for finding in findings],
        "sets": [result.about() for result in results],
    }


def _check(config: Mapping[str, Any]) -> None:
    """Refuse values that make no sense before anything is read."""
    from mbvision.build import input_size

    input_size(config)
    for key, endings in (("output", (".json",)), ("pictures", (".png", ".jpg"))):
        if config[key] is not None and Path(config[key]).suffix not in endings:
            raise ConfigError(f"{key}={config[key]}: give a file that ends in {' or '.join(endings)}")
        if config[key] is not None:  # not an hour later
            check_writable(key, Path(config[key]))


def _draw(results: Sequence[SetCheck], path: Path) -> None:
    from mbvision.data_checks.page import worst_page
    from mbvision.draw import grid, save_image

    pages = [worst_page(result.findings, result.readers) for result in results]
    drawn = [page for page in pages if page is not None]
    if not drawn:
        print("no page of pictures: what was found, if anything, is in no picture")
        return
    save_image(path, grid(drawn, 1))
    print(f"written: {path}")
