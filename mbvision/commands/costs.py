"""What several heads on one backbone cost, beside a network for each."""

from collections.abc import Mapping

import torch

from mbvision.analysis.complexity import Complexity, count
from mbvision.build import Config, build_network, eval_size


def joint_costs(config: Config, num_classes: Mapping[str, int]) -> dict[str, Complexity]:
    """Parameters and multiply-adds of a network for each head alone, by its name, and of the ``joint`` one."""
    parts = {name: {name: head} for name, head in config["heads"].items()} | {"joint": config["heads"]}
    with torch.device("meta"):
        networks = {name: build_network({**config, "heads": heads}, num_classes) for name, heads in parts.items()}
    return {name: count(network, eval_size(config)) for name, network in networks.items()}


def format_costs(costs: Mapping[str, Complexity]) -> str:
    """A line a network, and what sharing the trunk saves."""
    lines = [f"{'network':<16}{'parameters':>14}{'MAdds':>16}"]
    lines += [f"{name:<16}{cost.parameters:>14,}{cost.madds:>16,}" for name, cost in costs.items()]
    apart = sum(cost.madds for name, cost in costs.items() if name != "joint")
    lines.append(f"one network instead of {len(costs) - 1}: {costs['joint'].madds / apart:.0%} of the multiply-adds")
    return "\n".join(lines)
