"""SSDLite320, one PIL picture of 640x480 in, boxes in its pixels out: our Predictor beside torchvision's model.

Plain PyTorch on both sides, in inference mode, with the same random weights. Random weights leave too many or too few
candidates, so the background's bias is set for about 3,000 class scores over the threshold of 0.001 on each picture.
The stages are timed by themselves too; normalisation is torchvision's preprocessing and part of our network, and making
anchors is part of both networks.

    python benchmarks/inference.py
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.transforms._presets import ObjectDetection

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.pictures import drawn_sample
from benchmarks.ssdlite_pair import NUM_CLASSES, SIZE, Pair, background_bias, detection_task, ssdlite_pair
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.data.transforms.window import resize
from mbvision.heads.ssdlite import SSDLite
from mbvision.inference.predictor import Predictor, to_array
from mbvision.structures import Geometry

CANDIDATES = 3_000
to_tensor = ObjectDetection()
"""How torchvision's weights turn a picture into a tensor."""


def set_candidates(pair: Pair, pictures: Sequence[Image.Image]) -> float:
    """Shift the background's bias of both models; returns how many candidates a picture then has."""
    batch = torch.stack([torch.from_numpy(resize(to_array(picture), SIZE)) for picture in pictures])
    batch = batch.permute(0, 3, 1, 2).float() / 255
    shift = background_bias(pair.ours(batch)["detection"].logits, CANDIDATES)
    head = pair.ours.heads["detection"]
    assert isinstance(head, SSDLite)
    for level in [*pair.theirs.head.classification_head.module_list, *head.class_predictors]:
        level[-1].bias.view(-1, NUM_CLASSES + 1)[:, 0] += shift
    over = pair.ours(batch)["detection"].logits.softmax(dim=-1)[..., 1:] > detection_task().score_threshold
    return float(over.sum()) / len(pictures)


def make_predictor(pair: Pair) -> Predictor:
    """Our network, ready for inference as a loaded checkpoint is."""
    names = [f"class {label}" for label in range(NUM_CLASSES)]
    return Predictor(
        network=pair.ours,
        tasks={"detection": detection_task()},
        class_names={"detection": names},
        input_size=SIZE,
        device="cpu",
    )


def found_again(ssd: SSD, predictor: Predictor, pictures: Sequence[Image.Image]) -> float:
    """The share of torchvision's detections that we find: same label, boxes to 0.1 pixels, scores to 0.1 %."""
    shares = []
    for picture in pictures:
        (theirs,), ours = ssd([to_tensor(picture)]), predictor.predict(picture)
        same = theirs["labels"][:, None] == torch.from_numpy(ours.labels) + 1
        same &= ((theirs["boxes"][:, None] - torch.from_numpy(ours.boxes)).abs() < 0.1).all(dim=2)
        same &= torch.isclose(theirs["scores"][:, None], torch.from_numpy(ours.scores), rtol=0.001)
        shares.append(same.any(dim=1).float().mean().item())
    return float(np.mean(shares))


def grey_levels_apart(ssd: SSD, pictures: Sequence[Image.Image]) -> float:
    """The largest difference of the resized pictures, of 255."""
    apart = []
    for picture in pictures:
        theirs = ssd.transform([to_tensor(picture)])[0].tensors * 0.5 + 0.5
        apart.append((theirs * 255 - our_input(picture) * 255).abs().max().item())
    return max(apart)


def our_input(picture: Image.Image) -> Tensor:
    """What the predictor feeds its network."""
    image = resize(to_array(picture), SIZE)
    return torch.from_numpy(image[None]).permute(0, 3, 1, 2).float().div_(255)


def whole(ssd: SSD, predictor: Predictor, pictures: Sequence[Image.Image]) -> list[Case]:
    """From PIL pictures to detections, one at a time."""
    return [
        Case(name="torchvision", run=lambda _: [ssd([to_tensor(picture)]) for picture in pictures]),
        Case(name="mbvision", run=lambda _: [predictor.predict(picture) for picture in pictures]),
    ]


def stages(ssd: SSD, predictor: Predictor, pictures: Sequence[Image.Image]) -> dict[str, list[Case]]:
    """The cases of every stage; each stage gets what its own side's stage before it made."""

    def their_input(picture: Image.Image) -> ImageList:
        return ssd.transform([to_tensor(picture)])[0]

    def their_network(images: ImageList) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = list(ssd.backbone(images.tensors).values())
        return ssd.head(features), ssd.anchor_generator(images, features)

    def their_output(outputs: tuple[dict[str, Tensor], list[Tensor]]) -> Any:
        found = ssd.postprocess_detections(*outputs, [SIZE])
        return ssd.transform.postprocess(found, [SIZE], [(480, 640)])

    def our_output(outputs: dict[str, Any]) -> Any:
        (found,) = predictor.tasks["detection"].predict(outputs["detection"], SIZE)
        geometry = Geometry(original=(480, 640), scale=(SIZE[1] / 640, SIZE[0] / 480))
        return predictor.result({"detection": found}, geometry)

    theirs, ours = [their_input(picture) for picture in pictures], [our_input(picture) for picture in pictures]
    raw_theirs, raw_ours = [their_network(images) for images in theirs], [predictor.network(images) for images in ours]
    return {
        "preprocess": _pair_of(their_input, pictures, our_input, pictures),
        "network": _pair_of(their_network, theirs, predictor.network, ours),
        "postprocess": _pair_of(their_output, raw_theirs, our_output, raw_ours),
    }


def _pair_of(
    theirs: Callable[[Any], Any], their_inputs: Sequence[Any], ours: Callable[[Any], Any], our_inputs: Sequence[Any]
) -> list[Case]:
    return [
        Case(name="torchvision", run=lambda _: [theirs(one) for one in their_inputs]),
        Case(name="mbvision", run=lambda _: [ours(one) for one in our_inputs]),
    ]


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Time the whole and the stages and print the tables."""
    arguments = parser(__doc__, rounds=15).parse_args(argv)
    one_thread()
    number, rounds = (2, 1) if arguments.quick else (8, arguments.rounds)
    pictures = [Image.fromarray(drawn_sample(seed).image) for seed in range(number)]
    pair = ssdlite_pair()
    candidates = set_candidates(pair, pictures)
    predictor = make_predictor(pair)
    exact = found_again(pair.theirs, predictor, [picture.resize(SIZE) for picture in pictures])
    apart = grey_levels_apart(pair.theirs, pictures)
    checks = [
        check(exact > 0.99, f"of torchvision's detections on 320x320 pictures we find {exact:.1%}"),
        check(apart < 1.1, f"640x480 pictures are resized alike, to {apart:.2f} of 255 grey levels"),
        f"{candidates:.0f} candidates a picture",
    ]
    tables = [
        Table(
            title="whole picture",
            rows=measure(whole(pair.theirs, predictor, pictures), rounds=rounds, divide=number),
            rounds=rounds,
            checks=checks,
        )
    ]
    for name, cases in stages(pair.theirs, predictor, pictures).items():
        tables.append(Table(title=name, rows=measure(cases, rounds=rounds, divide=number), rounds=rounds))
    report(tables, arguments.output)


if __name__ == "__main__":
    main()
