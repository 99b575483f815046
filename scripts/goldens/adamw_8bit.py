"""Goldens of 8-bit AdamW: the maps, and steps by the formulas of bitsandbytes 0.50.2 (Dettmers et al. 2022), restated with torch.

Where bitsandbytes can be imported, its own steps are compared with ours before anything is written. Its CPU kernel for float32 does
not search for the nearest value near 0; the comparison takes the path it has for other dtypes, which does, as its CUDA kernel.
"""

import itertools
import math
from pathlib import Path

import torch

from .collection import Collection

BLOCK, SMALLEST = 256, 4096
SHAPES = {"large": (70, 61), "small": (9, 7)}  # 4270 elements, the last block of 174; 63
OPTIONS = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
STEPS = 4


def dynamic_map(signed: bool) -> torch.Tensor:
    values = [0.0, 1.0]
    for i in range(7):
        borders = torch.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        means = 10 ** (i - 6) * ((borders[:-1] + borders[1:]) / 2)
        values += means.tolist() + (-means).tolist() * signed
    return torch.tensor(sorted(values))


def blocks(flat: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)


def quantize(values: torch.Tensor, code: torch.Tensor) -> tuple:
    rows = blocks(values.flatten())
    absmax = rows.abs().amax(1)
    scaled = rows / torch.where(absmax > 0, absmax, 1.0)[:, None]
    nearest = (scaled.unsqueeze(-1) - code).abs().argmin(-1)  # the first, so the lower, of two
    return nearest.flatten()[: values.numel()].to(torch.uint8).view(values.shape), absmax


def dequantize(stored: tuple, code: torch.Tensor) -> torch.Tensor:
    bytes, absmax = stored
    rows = blocks(code[bytes.flatten().long()]) * absmax[:, None]
    return rows.flatten()[: bytes.numel()].view(bytes.shape)


class AdamW8bit:
    def __init__(self, parameter: torch.Tensor, lr: float, betas: tuple, eps: float, weight_decay: float):
        self.parameter, self.lr, self.betas, self.eps, self.decay = parameter, lr, betas, eps, weight_decay
        self.codes = [dynamic_map(True), dynamic_map(False)]
        zeros = torch.zeros_like(parameter)
        self.small = parameter.numel() < SMALLEST
        self.state = [zeros, zeros.clone()] if self.small else [quantize(zeros, code) for code in self.codes]
        self.steps = 0

    def step(self, grad: torch.Tensor) -> None:
        self.steps += 1
        m, v = self.state if self.small else [dequantize(*pair) for pair in zip(self.state, self.codes)]
        m = m * self.betas[0] + grad * (1 - self.betas[0])
        v = v * self.betas[1] + grad * grad * (1 - self.betas[1])
        correction1, correction2 = (1 - beta**self.steps for beta in self.betas)
        self.parameter.mul_(1 - self.lr * self.decay)
        self.parameter.addcdiv_(m, v.sqrt() / math.sqrt(correction2) + self.eps, value=-self.lr / correction1)
        self.averages = m, v
        self.state = [m, v] if self.small else [quantize(*pair) for pair in zip((m, v), self.codes)]

    def tensors(self) -> dict:
        if self.small:
            return {"exp_avg": self.state[0], "exp_avg_sq": self.state[1]}
        (state1, absmax1), (state2, absmax2) = self.state
        return dict(state1=state1, absmax1=absmax1, state2=state2, absmax2=absmax2)


def compare_with_bitsandbytes(initial: torch.Tensor, grads: list, found: AdamW8bit) -> None:
    try:
        import bitsandbytes
        from bitsandbytes.backends.cpu import ops
    except ImportError:
        return

    def exact(values, code, absmax_out, out_bytes, blocksize):
        bytes, absmax = torch.ops.bitsandbytes.quantize_blockwise(values.double(), code, blocksize)
        out_bytes.copy_(bytes)
        absmax_out.copy_(absmax)

    ops._quant_blockwise_fp32_direct = exact
    parameter = initial.clone().requires_grad_()
    optimizer = bitsandbytes.optim.AdamW8bit([parameter], **OPTIONS)
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), found.parameter)
    state = optimizer.state[parameter]
    for i, expected in enumerate(found.state, 1):
        theirs = state[f"state{i}"]
        if not found.small:
            code = found.codes[i - 1]
            theirs, expected = dequantize((theirs, state[f"absmax{i}"]), code), dequantize(expected, code)
        torch.testing.assert_close(theirs, expected)


def distance_to_borders(values: torch.Tensor, code: torch.Tensor) -> float:
    """How near a value comes to where rounding would choose another byte, relative to the value."""
    rows = blocks(values.flatten())
    scaled = rows / rows.abs().amax(1, keepdim=True).clamp(min=1e-30)
    borders = (code[1:] + code[:-1]) / 2
    distance = (scaled.unsqueeze(-1) - borders).abs().amin(-1) / scaled.abs().clamp(min=1e-7)
    return distance[scaled != 0].min().item()


def case(shape: tuple, seed: int) -> tuple:
    """Initial values, gradients and the optimizer after them, and how clear each choice of a byte was."""
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randn(shape, generator=generator)
    sizes = 10.0 ** torch.randint(-3, 2, (shape[0], 1), generator=generator)
    grads = [torch.randn(shape, generator=generator) * sizes for _ in range(STEPS)]
    ours, clear = AdamW8bit(initial.clone(), **OPTIONS), math.inf
    for grad in grads:
        grad.view(-1)[256:512] = 0  # a whole block
        ours.step(grad)
        for values, code in zip(ours.averages, ours.codes):
            clear = min(clear, distance_to_borders(values, code))
    return initial, grads, ours, clear


def steps() -> Collection:
    collection = Collection()
    collection.add("maps", dict(signed=dynamic_map(True), unsigned=dynamic_map(False)))
    for name, shape in SHAPES.items():
        # Another processor rounds otherwise in the last bit; no byte may hang on that.
        cases = (case(shape, seed) for seed in itertools.count())
        initial, grads, ours, _ = next(found for found in cases if found[3] > 2e-6 or found[2].small)
        compare_with_bitsandbytes(initial, grads, ours)
        collection.add(name, dict(initial=initial, grad=grads, final=ours.parameter, **ours.tensors()))
    return collection


def write(folder: Path) -> None:
    steps().write(folder / "adamw_8bit.safetensors")
