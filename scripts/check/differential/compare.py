"""Running the program, and what counts as a difference."""

import subprocess

import torch


class Mismatch(Exception):
    """What differs, in one line."""


def run(program: str, *arguments) -> str:
    """What a run that ends well leaves on stdout."""
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    if result.returncode != 0:
        error = result.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise Mismatch(f"{arguments[0]} ended with status {result.returncode}: {error[0]}")
    return result.stdout


def compare_names(expected: dict, found: dict) -> None:
    if sorted(expected) != sorted(found):
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        raise Mismatch(f"output tensors: missing {missing}, not expected {extra}")


def compare(name: str, expected: torch.Tensor, found: torch.Tensor, scale: float, tolerance: float) -> None:
    if expected.shape != found.shape:
        raise Mismatch(f"{name}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    if not found.isfinite().all():
        raise Mismatch(f"{name}: holds a value that is not finite")
    difference = (expected.float() - found.float()).abs()
    if difference.numel() == 0 or difference.max() <= tolerance * scale:
        return
    worst = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
    values = f"{found[worst].item():.9g}, expected {expected[worst].item():.9g}"
    raise Mismatch(
        f"{name}{list(worst)}: {values}; off by {difference.max() / scale:.2e} of the largest value {scale:.3g}"
    )
