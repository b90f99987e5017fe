"""One door for each kind of input: no other place of the code opens one, runs what a file says, or calls a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "mbvision").rglob("*.py"), *(ROOT / "tools").glob("*.py")])

DOORS: dict[str, tuple[str, ...]] = {
    # weights
    "torch.load": ("mbvision/checkpoint.py",),
    "torch.jit.load": (),
    "torch.hub.load": (),
    "torch.hub.load_state_dict_from_url": ("mbvision/weights/load.py",),
    "safetensors.safe_open": ("mbvision/checkpoint.py",),
    "safetensors.torch.load_file": (),
    "safetensors.torch.load": (),
    # exported files
    "torch.export.load": ("mbvision/deploy/torch_export.py",),  # files just written
    "onnx.load": ("mbvision/deploy/int8_onnx.py",),  # files just written
    "onnxruntime.InferenceSession": (
        "mbvision/deploy/onnx.py",
        "mbvision/commands/profiling.py",  # a file just written
        "mbvision/deploy/int8_onnx.py",  # the same
    ),
    "openvino.Core": ("mbvision/deploy/openvino.py", "mbvision/deploy/int8_openvino.py"),  # the latter: just written
    "executorch.runtime": ("mbvision/deploy/executorch.py",),
    # pictures, masks, videos
    "PIL.Image.open": ("mbvision/data/images.py",),
    "cv2.imread": (),
    "cv2.imreadmulti": (),
    "cv2.imdecode": (),
    "cv2.VideoCapture": ("mbvision/data/frames.py",),  # cameras, by number
    "torchvision.io": (),
    "torchvision.datasets": (),
    "torchvision.transforms.functional.decode_image": (),
    "matplotlib.pyplot.imread": (),
    "matplotlib.image.imread": (),
    "imageio": (),
    "skimage": (),
    "av.open": ("mbvision/data/video.py", "mbvision/inference/video_writer.py"),
    # annotations
    "pycocotools.coco": ("mbvision/metrics/coco_ap.py",),  # tables in memory
    "pandas": (),
    "csv.reader": (),
    "csv.DictReader": ("mbvision/engine/run_log.py",),  # a run's own table
    "json.load": (),
    "json.loads": (
        "mbvision/checkpoint.py",
        "mbvision/commands/peak_memory.py",  # its own answer from another process
        "mbvision/commands/profiling.py",  # ONNX Runtime's records
        "mbvision/data/coco.py",
        "mbvision/data/masks_folder.py",
        "mbvision/data/portraits.py",  # the stamp of the built-in sets
        "mbvision/data/scenes.py",
        "mbvision/deploy/about.py",  # metadata of exported files
        "mbvision/deploy/fastest.py",  # its own choice, in the user's cache
        "mbvision/metrics/results.py",
    ),
    "yaml.load": (),
    "yaml.load_all": (),
    "yaml.unsafe_load": (),
    "yaml.full_load": (),
    "yaml.safe_load": (),
    "yaml.compose": ("mbvision/data/yaml_files.py",),
    "yaml.parse": ("mbvision/data/yaml_files.py",),
    "omegaconf.OmegaConf.load": (),
    "xml.etree.ElementTree.parse": (),
    "xml.etree.ElementTree.fromstring": (),
    "xml.etree.ElementTree.iterparse": (),
    "xml.etree.ElementTree.XML": (),
    "xml.dom": (),
    "xml.sax.parse": (),
    "xml.sax.parseString": (),
    "lxml": (),
    "defusedxml.ElementTree.fromstring": ("mbvision/data/voc_xml.py",),
    "defusedxml.ElementTree.parse": (),
    "scipy.io": (),
    "numpy.load": (),
    "numpy.loadtxt": (),
    "numpy.genfromtxt": (),
    "numpy.fromfile": (),
    # archives
    "tarfile.open": ("mbvision/data/archive_members.py",),
    "zipfile.ZipFile": ("mbvision/data/archive_members.py", "mbvision/checkpoint_checks.py"),
    "shutil.unpack_archive": (),
    # what runs what it is given
    "pickle": (),
    "dill": (),
    "joblib": (),
    "shelve": (),
    "marshal": (),
    "eval": (),
    "exec": (),
    "compile": (),
    "__import__": (),
    "os.system": (),
    "os.popen": (),
    "subprocess": (
        "mbvision/commands/peak_memory.py",  # itself
        "mbvision/commands/requeue.py",  # scontrol, with a job's number
    ),
    "hydra.utils": (),
    "importlib.import_module": ("mbvision/__init__.py", "mbvision/build.py", "mbvision/commands/__init__.py"),
    "urllib.request": (),
    "urllib3": (),
    "requests": (),
    "ctypes": ("mbvision/commands/memory.py",),  # a setting of glibc
}
"""Names that may be used in the files beside them alone; a module's name stands for all that is in it."""

METHODS = {
    "extractall": (),
    "read_text": (
        "mbvision/commands/peak_memory.py",  # /proc
        "mbvision/commands/profiling.py",
        "mbvision/data/portraits.py",
        "mbvision/data/scenes.py",
        "mbvision/deploy/fastest.py",
        "mbvision/deploy/int8_openvino.py",  # a file just written
    ),
}
"""Methods of any object, likewise."""

FORBIDDEN_ARGUMENTS = {"weights_only": False, "allow_pickle": True, "shell": True}


def used_names(tree: ast.AST) -> Iterator[str]:
    """The full name of everything imported that is used, and of the builtins that are called."""
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                imported[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split(".")
            yield ".".join([imported.get(first, first), *rest])


def ways_around(path: str, text: str) -> list[str]:
    """What a file does that only another may."""
    tree = ast.parse(text)
    found = [
        f"{name} outside {places or 'any door'}"
        for used in set(used_names(tree))
        for name, places in DOORS.items()
        if (used == name or used.startswith(f"{name}.")) and path not in places
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and path not in METHODS.get(node.func.attr, (path,)):
                found.append(f"{node.func.attr}()")
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in FORBIDDEN_ARGUMENTS and value is FORBIDDEN_ARGUMENTS[keyword.arg]:
                    found.append(f"{keyword.arg}={value}")
    return found


def test_onnxruntime_is_imported_in_one_place_which_turns_its_telemetry_off() -> None:
    importing = {
        str(path.relative_to(ROOT))
        for path in [*FILES, *(ROOT / "benchmarks").glob("*.py")]
        if "onnxruntime" in {name.partition(".")[0] for name in imported_names(ast.parse(path.read_text()))}
    }
    assert importing == {
        "mbvision/deploy/runtime.py",
        "mbvision/deploy/int8_onnx.py",  # its quantization, after the former
    }


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_goes_around_the_doors(path: Path) -> None:
    assert not ways_around(str(path.relative_to(ROOT)), path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "from torch import load as read\nread('x')",
        "from PIL import Image\nImage.open('x')",
        "import PIL.Image as pictures\npictures.open('x')",
        "import cv2\nread = cv2.imread",
        "import cv2 as c\nc.imdecode(b'', 1)",
        "import tarfile\ntarfile.open('x')",
        "archive.extractall('.')",
        "from xml.etree import ElementTree\nElementTree.parse('x')",
        "import xml.etree.ElementTree as ET\nET.fromstring('x')",
        "from hydra.utils import instantiate\ninstantiate({})",
        "import hydra\nhydra.utils.instantiate({})",
        "import pickle",
        "from pickle import loads",
        "import numpy as np\nnp.load('x')",
        "read('x', allow_pickle=True)",
        "read('x', weights_only=False)",
        "import yaml\nyaml.load('x')",
        "eval('1')",
        "from os import system\nsystem('x')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "from importlib import import_module\nimport_module(name)",
        "from torchvision.io import read_image",
        "path.read_text()",
    ],
)
def test_each_way_around_is_seen(text: str) -> None:
    assert ways_around("mbvision/somewhere.py", text)


def test_every_door_is_there() -> None:
    named = {place for places in DOORS.values() for place in places} | {p for ps in METHODS.values() for p in ps}
    assert named <= {str(path.relative_to(ROOT)) for path in FILES}
