"""The state of every global random generator, as plain data that ``torch.load(weights_only=True)`` reads."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def capture(device: torch.device) -> dict[str, Any]:
    """The states of python, NumPy, torch and, on a GPU, of that GPU."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def of_all_processes(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of the processes that train together, by rank; every process has to call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    states = [state] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Take up all generators where ``capture`` saw them."""
    random.setstate(state["python"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
