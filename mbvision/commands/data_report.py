"""What ``check_data`` and the start of ``train`` share: a configured head's anchors, and a few lines of findings."""

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any

import torch

from mbvision.build import Config, build_network, input_size
from mbvision.commands.run_folder import first_process
from mbvision.data.base import Reader
from mbvision.data.file_listing import shown
from mbvision.data_checks.check_set import Report, check_annotations
from mbvision.data_checks.findings import CAUSES, by_cause, counted
from mbvision.data_checks.reach_checks import HeadAnchors
from mbvision.data_checks.same_files import same_files
from mbvision.data_checks.split_counts import count_line, idle_classes
from mbvision.heads.ssdlite import SSDLite
from mbvision.network import Network
from mbvision.structures import BoxAnnotations

FINER_TAP = "c3_expanded"
"""The level of stride 8 that is proposed where boxes are too small for those that the head reads."""

MOST_TOLD = 4
"""So many causes are told when training starts."""

logger = logging.getLogger(__name__)


def meta_network(config: Config) -> Network | None:
    """The network with its detection head alone and without values; None where there is no such head."""
    node = config["heads"].get("detection")
    if node is None:
        return None
    with torch.device("meta"):  # no memory, no random numbers: only the sizes of the maps are wanted
        return build_network({**config, "heads": {"detection": node}}, {"detection": 1})


def head_anchors(config: Config, network: Network | None) -> HeadAnchors | None:
    """The anchors of the detection head, for the input of training; None where there is no SSD head.

    ``network`` is the one of ``config``.
    """
    head = None if network is None or "detection" not in network.heads else network.heads["detection"]
    if network is None or not isinstance(head, SSDLite):
        return None
    size = input_size(config)
    sizes = map_sizes(network, head, size)
    finer = (ceil(size[0] / 8), ceil(size[1] / 8))
    known = network.backbone.features.get(FINER_TAP)
    adds = known is not None and known.stride == 8 and sizes[0] != finer
    return HeadAnchors(
        anchors=head.anchors,
        input_size=size,
        fit=config["fit"],
        sizes=sizes,
        least_iou=config["tasks"]["detection"]["loss"]["iou_threshold"],
        finer=[finer, *sizes] if adds else None,
        finer_taps=(FINER_TAP, *head.taps) if adds else (),
    )


def map_sizes(network: Network, head: SSDLite, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The (height, width) of the feature maps that anchors are laid on, for an input of ``size``.

    A map of stride s has ``ceil(height / s)`` rows, and every extra layer of the head halves the one before.
    """
    strides = [network.backbone.features[tap].stride for tap in head.taps]
    sizes = [(ceil(size[0] / stride), ceil(size[1] / stride)) for stride in strides]
    for _ in head.extra:
        sizes.append((ceil(sizes[-1][0] / 2), ceil(sizes[-1][1] / 2)))
    return sizes


def tell_findings(config: Config, network: Network, train_reader: Reader, val_reader: Reader) -> None:
    """Log what each split of a run that starts holds, and in a few lines what is wrong in its annotations."""
    if not first_process():
        return
    truths: dict[str, Mapping[str, Any]] = {"train": train_reader.truth}
    if val_reader is not train_reader:
        truths["val"] = val_reader.truth
    sources = {split: str(config["data"][f"{split}_split"]) for split in truths}
    for split, reader in zip(truths, (train_reader, val_reader), strict=False):
        logger.info("data: %s (%s): %s", split, sources[split], count_line(len(reader), truths[split]))
        boxes = truths[split].get("detection")
        for name, count in idle_classes(boxes).items() if isinstance(boxes, BoxAnnotations) else ():
            text = "data: %s (%s): class %r has %d boxes of which none %s: all are crowds, difficult, empty or outside"
            logger.warning(text, split, sources[split], name, count, "trains" if split == "train" else "is scored")
    if val_reader is not train_reader and (shared := same_files(train_reader, val_reader)):
        logger.warning(
            "data: %d of %d validation images are files that training reads too (%s): the scores say nothing about new"
            " images; check data.val_split= and data.images=",
            *(len(shared), len(val_reader), shown([str(val_reader.path(index)) for index in shared[:4]])),
        )
    for line in short_lines(check_annotations(truths, sources, head_anchors(config, network), quick=True)):
        logger.warning("%s", line)


def short_lines(report: Report) -> list[str]:
    """How many findings there are, and of which causes; notes are not told."""
    told = [finding for finding in report.findings if CAUSES[finding.cause].severity != "note"]
    if not told:
        return []
    groups = by_cause(told)
    lines = [f"data: {counted(told)} in the annotations; tools/check_data.py with the same keys names every one"]
    lines += [f"  {len(group):>6}  {CAUSES[cause].what}" for cause, group in list(groups.items())[:MOST_TOLD]]
    return [*lines, "  ..."] if len(groups) > MOST_TOLD else lines
