#!/usr/bin/env python3
"""Removes a quarter of SmolLM2-135M's MLP channels by each criterion and says what is left; the table of docs/pruning.md.

    prune_smollm2.py [--model FOLDER] [--share 0.25] [--threads N]

Uses the release build of transformers-cpp and, to compare logits, transformers. Texts: scripts/texts, public domain.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "release" / "bin" / "transformers-cpp"
TEXTS = ROOT / "scripts" / "texts"
CRITERIA = ["l1", "l2", "activation", "taylor", "random"]


def run(*arguments) -> str:
    result = subprocess.run([str(PROGRAM), "--quiet", *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr)
    return result.stdout


def ids_of(model: Path) -> torch.Tensor:
    ids = json.loads(run("tokenize", "--model", model, "--file", TEXTS / "evaluation.txt"))["ids"]
    return torch.tensor([ids])


def forward(model: Path, ids: torch.Tensor, scratch: Path) -> dict:
    inputs, output = scratch / "in.safetensors", scratch / "out.safetensors"
    save_file({"input_ids": ids, "labels": ids.clone()}, inputs)
    run("forward", "--model", model, "--inputs", inputs, "--output", output, "--dtype", "float32")
    return load_file(output)


def difference_from_python(model: Path, ids: torch.Tensor, logits: torch.Tensor) -> float:
    """The largest difference of logits, as a share of the largest logit."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        expected = reference(input_ids=ids).logits
    return ((logits - expected).abs().max() / expected.abs().max()).item()


def decode_rate(model: Path, threads: int) -> float:
    options = ("--prompt-tokens", 8, "--new-tokens", 16, "--context", 64, "--repetitions", 3, "--num-threads", threads)
    for line in run("bench", "--model", model, *options).splitlines():
        measured = json.loads(line)
        if measured["phase"] == "decode":
            return measured["tokens_per_second"]["max"]
    sys.exit("bench printed no decode line")


def decode_rates(models: list, threads: int, rounds: int = 4) -> list:
    """The best of several rounds in turn, so that what else the machine does hits all models alike."""
    measured = [[decode_rate(model, threads) for model in models] for _ in range(rounds)]
    return [max(of_model) for of_model in zip(*measured)]


def row(name: str, model: Path, ids: torch.Tensor, scratch: Path) -> str:
    outputs = forward(model, ids, scratch)
    found = json.loads(run("inspect", model, "--json"))
    perplexity = math.exp(outputs["loss"].item())
    difference = difference_from_python(model, ids, outputs["logits"])
    return f"| {name} | {found['parameters']:,} | {found['bytes'] / 1e6:.1f} | {perplexity:.1f} | {difference:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "SmolLM2-135M-Instruct")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=2, help="for the decode rates")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ids = ids_of(options.model)
        print(f"perplexity over {ids.shape[1]} tokens, {options.share:.0%} of the channels of each MLP removed\n")
        print("| criterion | parameters | MB | perplexity | logits against Python |\n|---|---|---|---|---|")
        print(row("(whole)", options.model, ids, scratch), flush=True)
        for criterion in CRITERIA:
            pruned = scratch / criterion
            calibration = ("--calibration", TEXTS / "calibration.txt") if criterion in ("activation", "taylor") else ()
            arguments = ("--intermediate", options.share, "--criterion", criterion, *calibration)
            run("prune", "--model", options.model, "--output", pruned, *arguments)
            print(row(criterion, pruned, ids, scratch), flush=True)
        # What is left has the same sizes by every criterion.
        before, after = decode_rates([options.model, scratch / "l2"], options.threads)
        print(f"\ndecode, {options.threads} thread(s): {before:.1f} tokens/s before, {after:.1f} after")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main()
