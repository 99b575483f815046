"""Hugging Face folders in each form the library has to read."""

import json
import shutil
from pathlib import Path

import safetensors.torch
import torch


def write_bin(reference: Path, folder: Path, shards: int) -> None:
    """pytorch_model.bin, or several with an index; transformers 5 no longer writes them."""
    tensors = safetensors.torch.load_file(reference / "model.safetensors")
    names = list(tensors)
    parts = [names[index::shards] for index in range(shards)]
    files = (
        [f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin" for i in range(shards)]
        if shards > 1
        else ["pytorch_model.bin"]
    )
    for file, part in zip(files, parts):
        torch.save({name: tensors[name] for name in part}, folder / file)
    if shards > 1:
        weight_map = {name: file for file, part in zip(files, parts) for name in part}
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2))


def write(model: torch.nn.Module, reference: Path, folder: Path, save_format: str) -> None:
    """The folder under test beside one that Python loads; both hold the same model."""
    model.save_pretrained(reference)
    folder.mkdir()
    if save_format == "sharded":
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        model.save_pretrained(folder, max_shard_size=max(size // 3, 256))
        return
    for file in ("config.json", "generation_config.json"):
        if (reference / file).exists():
            shutil.copy(reference / file, folder)
    if save_format == "safetensors":
        shutil.copy(reference / "model.safetensors", folder)
    else:
        write_bin(reference, folder, shards=3 if save_format == "sharded bin" else 1)
