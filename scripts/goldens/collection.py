"""One golden file of many small function calls.

Tensors are named <case>.<argument or result>; the metadata entry `cases` is a JSON object from case to its other arguments. A
case whose result is None has "none": true there and no result tensor.
"""

import json
from pathlib import Path

import torch
import transformers

from .case import save


class Collection:
    def __init__(self):
        self.tensors, self.cases = {}, {}

    def add(self, case: str, tensors: dict, **arguments) -> None:
        """tensors: inputs and results; a result of None is noted, a list of tensors becomes <name>.{i}."""
        assert case not in self.cases, case
        for name, tensor in tensors.items():
            if tensor is None:
                arguments["none"] = True
            elif isinstance(tensor, (list, tuple)):
                self.tensors |= {f"{case}.{name}.{i}": item for i, item in enumerate(tensor)}
            else:
                self.tensors[f"{case}.{name}"] = tensor
        self.cases[case] = arguments

    def write(self, path: Path) -> None:
        versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
        description = {"format": "pt", "cases": json.dumps(self.cases), "versions": json.dumps(versions)}
        save(path, self.tensors, description)
