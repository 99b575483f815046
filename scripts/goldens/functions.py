"""Goldens of single functions: activations, and what each rope type makes of a config."""

from pathlib import Path

import torch
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from . import inputs as make
from .collection import Collection

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
POSITIONS = [0, 1, 2, 7, 100, 1000, 4095, 8191, 16384]
FACTORS = dict(short_factor=[1.0 + 0.02 * i for i in range(32)], long_factor=[1.0 + 0.9 * i for i in range(32)])

# name: rope parameters, max_position_embeddings, positions of the call
ROPE = {
    "default": (dict(rope_type="default", rope_theta=10000.0), 2048, POSITIONS),
    "default_theta_500000": (dict(rope_type="default", rope_theta=500000.0), 8192, POSITIONS),
    "linear": (dict(rope_type="linear", rope_theta=10000.0, factor=4.0), 2048, POSITIONS),
    "dynamic_below": (dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0), 2048, POSITIONS[:6]),
    "dynamic_beyond": (dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0), 2048, POSITIONS),
    "yarn": (
        dict(rope_type="yarn", rope_theta=10000.0, factor=16.0, original_max_position_embeddings=4096),
        65536,
        POSITIONS,
    ),
    "yarn_beta": (
        dict(
            rope_type="yarn",
            rope_theta=10000.0,
            factor=8.0,
            original_max_position_embeddings=4096,
            beta_fast=16.0,
            beta_slow=2.0,
        ),
        32768,
        POSITIONS,
    ),
    "yarn_mscale": (
        dict(
            rope_type="yarn",
            rope_theta=10000.0,
            factor=40.0,
            original_max_position_embeddings=4096,
            mscale=1.0,
            mscale_all_dim=0.7,
        ),
        163840,
        POSITIONS,
    ),
    "yarn_not_truncated": (
        dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096, truncate=False),
        131072,
        POSITIONS,
    ),
    "yarn_attention_factor": (
        dict(
            rope_type="yarn",
            rope_theta=10000.0,
            factor=4.0,
            original_max_position_embeddings=4096,
            attention_factor=0.8,
        ),
        16384,
        POSITIONS,
    ),
    "longrope_short": (
        dict(rope_type="longrope", rope_theta=10000.0, factor=32.0, original_max_position_embeddings=4096, **FACTORS),
        131072,
        POSITIONS[:7],
    ),
    "longrope_long": (
        dict(rope_type="longrope", rope_theta=10000.0, factor=32.0, original_max_position_embeddings=4096, **FACTORS),
        131072,
        POSITIONS,
    ),
    "longrope_without_factor": (
        dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=4096, **FACTORS),
        131072,
        POSITIONS,
    ),
    "llama3": (
        dict(
            rope_type="llama3",
            rope_theta=500000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
        131072,
        POSITIONS,
    ),
    "proportional": (
        dict(rope_type="proportional", rope_theta=10000.0, partial_rotary_factor=0.25),
        8192,
        POSITIONS,
    ),
}


def activation_input() -> torch.Tensor:
    edges = torch.tensor([0.0, -0.0, 1e-3, -1e-3, 1e-6, 9.9, -9.9, 10.1, -10.1, 20.0, -20.0, 60.0, -60.0])
    return torch.cat([torch.linspace(-6, 6, 49), edges, make.normal(18, seed=11)])


def write_activations(folder: Path) -> None:
    collection = Collection()
    for name in ACT2FN:
        for dtype in DTYPES:
            function = ACT2FN[name].to(dtype)
            argument = activation_input().to(dtype).requires_grad_()
            result = function(argument)
            upstream = torch.linspace(0.5, 1.5, argument.numel()).to(dtype)
            (gradient,) = torch.autograd.grad(result, argument, upstream)
            label = str(dtype).removeprefix("torch.")
            collection.add(f"{name}.{label}", {"output": result, "grad": gradient}, activation=name, dtype=label)
    for dtype in DTYPES:
        label = str(dtype).removeprefix("torch.")
        collection.tensors[f"input.{label}"] = activation_input().to(dtype)
        collection.tensors[f"upstream.{label}"] = torch.linspace(0.5, 1.5, activation_input().numel()).to(dtype)
    collection.write(folder / "activations.safetensors")


def write_rope(folder: Path) -> None:
    collection = Collection()
    for name, (parameters, maximum, positions) in ROPE.items():
        config = LlamaConfig(
            hidden_size=256, num_attention_heads=4, max_position_embeddings=maximum, rope_parameters=parameters
        )
        rotary = LlamaRotaryEmbedding(config)
        position_ids = torch.tensor([positions])
        cos, sin = rotary(torch.zeros(1), position_ids)
        tensors = {"position_ids": position_ids, "inv_freq": rotary.inv_freq, "cos": cos, "sin": sin}
        scaling = float(rotary.attention_scaling)
        collection.add(name, tensors, config=config.to_dict(), attention_factor=scaling)
    table = create_sinusoidal_positions(2048, 64)[[position for position in POSITIONS if position < 2048]]
    collection.add(
        "gptj", {"positions": torch.tensor([p for p in POSITIONS if p < 2048]), "table": table}, rotary_dim=64
    )
    collection.write(folder / "rope.safetensors")


def write(folder: Path) -> None:
    write_activations(folder)
    write_rope(folder)
