#!/usr/bin/env python3
"""Loads with transformers what the library's save_pretrained wrote, and compares the outputs.

load_saved_models.py <the program save_models>      exit status 1 on a difference, 77 without transformers
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def check(folder: Path) -> None:
    expected = load_file(folder / "expected.safetensors")
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    model, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
    faults = {kind: keys for kind, keys in report.items() if keys}
    assert not faults, f"{folder.name}: {faults}"
    with torch.no_grad():
        outputs = model(input_ids=expected.pop("input_ids"))
    for name, tensor in expected.items():
        difference = (outputs[name] - tensor).abs().max() / tensor.abs().max()
        assert difference < 1e-5, f"{folder.name}: {name} differs by {difference} of its largest value"


def check_again(folder: Path) -> None:
    """Saved by Python, the weights of one file are the same bytes."""
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    model = getattr(transformers, architecture).from_pretrained(folder)
    with tempfile.TemporaryDirectory() as copy:
        model.save_pretrained(copy)
        for name in ("model.safetensors", "config.json"):
            assert (Path(copy) / name).read_bytes() == (folder / name).read_bytes(), f"{folder.name}: {name} differs"


def main(program: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run([program, temporary], check=True)
        folders = sorted(Path(temporary).iterdir())
        assert len(folders) > 20, "the program saved too few folders"
        for folder in folders:
            check(folder)
            if (folder / "model.safetensors").exists():
                check_again(folder)
    print(f"{len(folders)} folders load and give the same")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main(sys.argv[1])
