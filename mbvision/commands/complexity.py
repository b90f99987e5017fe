"""``complexity``: what a network costs, counted from its configuration alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbvision.commands.compose import compose_config, wants_help
from mbvision.commands.typed import as_typed
from mbvision.errors import ConfigError

if TYPE_CHECKING:
    from mbvision.analysis.complexity import Complexity
    from mbvision.network import Network

HELP = """\
Count parameters, multiply-adds (MAdds) and activation memory: python tools/complexity.py task=ssdlite input_size=320

  task=classification          and every other key of train that says what the network is: backbone=, backbone.width=,
                               input_size=, output_stride=, heads.NAME.*, experiment=; see train --help
  num_classes=80               of each head; without it and without data= the published ones: ImageNet 1000, COCO 90 and
                               background, VOC 21 (lraspp: Cityscapes 19)
  convention=plain             parameters with batch norms' scales and shifts, multiply-adds of convolutions and linear
                               layers; paper_classification, paper_detection, paper_segmentation: as those tables
  part=backbone                heads, heads.detection.extra, ...: the layers below it alone
  two_stage=true               the backbone in a two-stage detector instead, as arXiv:1704.04861 table 13 counts it
  value_bytes=4                of an activation; activations are the outputs of convolutions and linear layers
  output=FILE.json             parameters, madds and layers; FILE.csv: a line a layer
  picture=FILE.png             bars by stage
  sweep=true                   each of widths=[0.5,1.0] at each of sizes=[192,224]; output= and picture= as above"""

PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is counted: a configuration, the classes of its heads, and how."""

    config: Mapping[str, Any]
    num_classes: Mapping[str, int]

    def build(self) -> "Network":
        """The network, without values."""
        import torch

        from mbvision.build import build_network

        with torch.device("meta"):
            return build_network(self.config, self.num_classes)

    def cost(self, network: "Network", size: tuple[int, int]) -> "Complexity":
        """The cost of the part that was asked for, in the convention that was asked for."""
        from mbvision.analysis.breakdown import by_stage, part
        from mbvision.analysis.complexity import count
        from mbvision.analysis.two_stage import two_stage

        convention, name = self.config["convention"], self.config["part"]
        if self.config["two_stage"]:
            cost = two_stage(network, size, self.num_classes["detection"], convention)
        else:
            cost = count(network, size, convention)
        if name is None:
            return cost
        chosen = part(cost, name)
        if not chosen.layers:
            raise ConfigError(f"part={name}: nothing there costs anything; it has {', '.join(by_stage(network, cost))}")
        return chosen


def main(arguments: Sequence[str]) -> int:
    """Count once, or once for every point of a sweep; print the tables and write the files that were asked for."""
    if wants_help(arguments):
        print(as_typed(HELP))
        return 0
    subject = read_subject(arguments)
    if subject.config["sweep"]:
        _sweep(subject, arguments)
    else:
        _count(subject)
    return 0


def read_subject(arguments: Sequence[str]) -> Subject:
    """The checked configuration of ``conf/complexity.yaml`` with these arguments, and the classes it is counted for.

    Raises ConfigError; with ``data=`` also the errors of a data set that cannot be read.
    """
    config = compose_config("complexity", arguments)
    _check(config)
    given = any(argument.partition("=")[0].split(".")[0] == "data" for argument in arguments)
    return Subject(config=config, num_classes=class_counts(config, from_data=given))


def class_counts(config: Mapping[str, Any], *, from_data: bool) -> dict[str, int]:
    """The classes that each head is counted with: ``num_classes``, else the data set's, else the published ones."""
    wanted = ["detection"] if config["two_stage"] else list(config["heads"])
    published = {name: config["published_classes"].get(name) for name in {*wanted, *config["heads"]}}
    if (number := config["num_classes"]) is not None:
        return dict.fromkeys(published, number)
    if from_data:
        from mbvision.build import build_reader

        reader = build_reader(
            config["data"], "train_split", tasks=tuple(wanted), class_slots=config.get("class_slots", "contiguous")
        )
        return published | {name: len(reader.class_names[name]) for name in wanted}
    if unknown := [name for name in wanted if published[name] is None]:
        raise ConfigError(f"num_classes= is missing: there is no published number for {unknown[0]}; or give data=")
    return published


def _check(config: Mapping[str, Any]) -> None:
    """Refuse values that make no sense before anything is built."""
    from mbvision.analysis.conventions import find_convention
    from mbvision.build import input_size

    find_convention(config["convention"])
    input_size(config)
    for key, endings in (("output", (".json", ".csv")), ("picture", PICTURES)):
        if config[key] is not None and Path(config[key]).suffix not in endings:
            raise ConfigError(f"{key}={config[key]}: give a file that ends in {', '.join(endings)}")
    for key in ("widths", "sizes"):
        if not config[key]:
            raise ConfigError(f"{key}=[]: name at least one")
    for size in config["sizes"]:
        try:
            input_size({"input_size": size})
        except ConfigError as error:
            raise ConfigError(f"sizes={config['sizes']}: {error}") from error
    if config["two_stage"] and not any("c5" in head["taps"] for head in config["heads"].values()):
        raise ConfigError("two_stage=true needs a head that reads c5; say task=classification")


def _count(subject: Subject) -> None:
    from mbvision.analysis.breakdown import by_stage
    from mbvision.build import input_size
    from mbvision.commands import complexity_tables as tables
    from mbvision.draw_complexity import plot_costs

    config, size = subject.config, input_size(subject.config)
    network = subject.build()
    cost = subject.cost(network, size)
    title = f"{_what(subject)}, {size[0]}x{size[1]}"
    print(tables.format_tables(title, network, cost, config["value_bytes"]))
    if config["output"]:
        about = {**_about(subject), "input_size": list(size)}
        tables.write(Path(config["output"]), about, network, cost, config["value_bytes"])
    if config["picture"]:
        stages = by_stage(network, cost)
        plot_costs(Path(config["picture"]), title, list(stages), _panels(stages.values(), config["value_bytes"]))


def _panels(stages: Iterable["Complexity"], value_bytes: int) -> dict[str, dict[str, list[int]]]:
    """What a picture shows: for each measure and kind of work, a number for each stage."""
    from mbvision.analysis.breakdown import WORK, by_work
    from mbvision.analysis.complexity import Complexity

    nothing = Complexity(layers=())
    columns = [by_work(stage) for stage in stages]
    parts = {work: [column.get(work, nothing) for column in columns] for work in WORK}
    return {
        "parameters": {work: [one.parameters for one in row] for work, row in parts.items()},
        "MAdds": {work: [one.madds for one in row] for work, row in parts.items()},
        "activation bytes": {work: [one.activations * value_bytes for one in row] for work, row in parts.items()},
    }


def _sweep(subject: Subject, arguments: Sequence[str]) -> None:
    from mbvision.analysis.sweep import sweep
    from mbvision.build import input_size
    from mbvision.commands import complexity_tables as tables
    from mbvision.draw_complexity import plot_sweep

    config = subject.config
    sizes = [input_size({"input_size": size}) for size in config["sizes"]]
    points = sweep(partial(_at_width, subject, arguments), config["widths"], sizes, subject.cost)
    print(tables.format_sweep(_what(subject), points, config["value_bytes"]))
    if config["output"]:
        tables.write_sweep(Path(config["output"]), _about(subject), points, config["value_bytes"])
    if config["picture"]:
        plot_sweep(
            Path(config["picture"]),
            _what(subject),
            [(p.width, p.input_size, p.cost.parameters, p.cost.madds) for p in points],
        )


def _at_width(subject: Subject, arguments: Sequence[str], width: float) -> "Network":
    """The network of another width: heads follow it where their configuration refers to it."""
    kept = [argument for argument in arguments if argument.partition("=")[0] != "backbone.width"]
    config = compose_config("complexity", [*kept, f"backbone.width={width}"])
    return Subject(config=config, num_classes=subject.num_classes).build()


def _about(subject: Subject) -> dict[str, Any]:
    config = subject.config
    return {
        "backbone": config["backbone"]["_target_"].rpartition(".")[2],
        "heads": {name: head["_target_"].rpartition(".")[2] for name, head in config["heads"].items()},
        "num_classes": dict(subject.num_classes),
        "convention": config["convention"],
        "part": config["part"],
        "two_stage": config["two_stage"],
    }


def _what(subject: Subject) -> str:
    """One line that names the network and what is counted."""
    about = _about(subject)
    heads = [f"{head} ({subject.num_classes[name]} classes)" for name, head in about["heads"].items()]
    if about["two_stage"]:
        heads = [f"two-stage detector ({subject.num_classes['detection']} classes)"]
    chosen = f"{about['part']} of " if about["part"] else ""
    return f"{chosen}{about['backbone']} with {' and '.join(heads)}, convention {about['convention']}"
