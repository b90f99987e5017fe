"""Core ML packages (``.mlpackage``) for Apple's devices. They run on macOS alone; elsewhere they are written unseen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from mbvision.deploy.torch_export import traced
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.errors import ConfigError, ExportError


def export(
    network: DeployedNetwork, example: Tensor, path: Path, *, dynamic: Sequence[str], metadata: Mapping[str, str]
) -> None:
    """Write the package, for inputs of the example's shape, in float32."""
    import coremltools

    if dynamic:
        raise ConfigError(f"dynamic={list(dynamic)}: format=coreml has fixed inputs; set dynamic=[] and batch=1")
    program = traced(network, example, ()).run_decompositions({})
    model = coremltools.convert(
        program,
        inputs=[coremltools.TensorType(name="images", shape=tuple(example.shape))],
        outputs=[coremltools.TensorType(name=name) for name in network.output_names],
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS17,
        skip_model_load=True,
    )
    model.user_defined_metadata.update(metadata)
    model.save(str(path))
    check(path, example, network.output_names)


def check(path: Path, example: Tensor, outputs: Sequence[str]) -> None:
    """Load the package again. Raises ExportError where its input or its outputs are not those that it should have."""
    import coremltools

    specification = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec().description
    found = [feature.name for feature in specification.output]
    shape = tuple(specification.input[0].type.multiArrayType.shape)
    if found != list(outputs) or shape != tuple(example.shape):
        raise ExportError(f"{path.name}: Core ML has the outputs {found} for {shape}, not {list(outputs)}")
