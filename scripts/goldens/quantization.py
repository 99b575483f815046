"""Goldens of weights in 8 and 4 bits: what rounding leaves of matrices, and peft's adapters trained over such weights.

int8 is torch's quantize_per_channel with symmetric scales; int4 restates the group-wise formulas of gpt-fast and torchao (scales and zeros
in bf16), checked here against torch's own int4 product.
"""

import json
from pathlib import Path

import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn

from .case import config_text
from .collection import Collection
from .lora import STEPS, base_model_of
from .training import FAMILIES

GROUP = 8


def int8(weight: torch.Tensor) -> torch.Tensor:
    scales = weight.float().abs().amax(1).clamp_min(127 * torch.finfo(torch.float32).tiny) / 127
    zeros = torch.zeros_like(scales, dtype=torch.int64)
    operators = torch.ops.quantized_decomposed
    values = operators.quantize_per_channel(weight.float(), scales, zeros, 0, -127, 127, torch.int8)
    return (values.float() * scales[:, None]).to(weight.dtype)


def int4(weight: torch.Tensor, group: int) -> torch.Tensor:
    rows = weight.float().reshape(weight.shape[0], -1, group)
    low, high = rows.amin(2, keepdim=True), rows.amax(2, keepdim=True)
    scales = (high - low).clamp(min=1e-6) / 15
    zeros = (low + scales * 8).bfloat16().float()
    scales = scales.bfloat16().float()
    values = ((rows - (zeros - scales * 8)) / scales).round().clamp(0, 15)
    result = ((values - 8) * scales + zeros).reshape(weight.shape)
    if group == 32 and weight.shape[0] % 16 == 0:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.reshape(weight.shape).int(), 1)
        parameters = torch.cat((scales, zeros), 2).transpose(0, 1).contiguous()
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(torch.eye(weight.shape[1]), packed, group, parameters)
        torch.testing.assert_close(product.T, result)
    return result.to(weight.dtype)


def weights() -> Collection:
    collection = Collection()
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(16, 64, generator=generator) * torch.logspace(-3, 1, 16)[:, None]
    matrix[3], matrix[4, :32], matrix[5] = 0, 0.25, torch.linspace(0, 1, 64)
    for dtype in (torch.float32, torch.bfloat16):
        weight = matrix.to(dtype)
        tensors = dict(weight=weight, int8=int8(weight), int4_32=int4(weight, 32), int4_16=int4(weight, 16))
        collection.add(str(dtype).removeprefix("torch."), tensors)
    return collection


def quantized_base(family: str, rounded):
    """A peft oracle: the same model whose layers inside the base model hold what rounding leaves."""
    model = base_model_of(family)
    with torch.no_grad():
        for module in model.base_model.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(rounded(module.weight))
    return model


def qlora(family: str) -> Collection:
    collection = Collection()
    ids = torch.randint(24, (2, 7), generator=torch.Generator().manual_seed(4))
    model = base_model_of(family)
    start = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()}
    collection.add("start", dict(input_ids=ids) | start, config=json.loads(config_text(model)))
    cases = {"int8": (int8, {}), "int4": (lambda w: int4(w, GROUP), {}), "int4_dora": (lambda w: int4(w, GROUP), dict(use_dora=True))}
    for name, (rounded, options) in cases.items():
        torch.manual_seed(7)
        options = dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"]) | options
        model = get_peft_model(quantized_base(family, rounded), LoraConfig(**options))
        tensors = dict(logits_before=model(input_ids=ids).logits.detach())
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=5e-3, weight_decay=0.01)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
        tensors |= {f"final.{key}": tensor.detach().clone() for key, tensor in get_peft_model_state_dict(model).items()}
        collection.add(name, tensors, options=options)
    return collection


def write(folder: Path) -> None:
    weights().write(folder / "weights.safetensors")
    for family in FAMILIES:
        qlora(family).write(folder / f"qlora_{family}.safetensors")
