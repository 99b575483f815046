#!/usr/bin/env python3
"""Removes a quarter of SmolLM2-135M's MLP channels by each criterion and says what is left; the table of docs/pruning.md.

    prune_smollm2.py [--model FOLDER] [--share 0.25] [--threads N] [--rounds N]

Prints parameters, bytes, decode rate, perplexity and the difference of the logits from those of Python's transformers;
ends with an error where that is above 1e-4 of the largest. Uses the release build of transformers-cpp. Texts:
scripts/data/texts, public domain.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "release" / "bin" / "transformers-cpp"
TEXTS = ROOT / "scripts" / "data" / "texts"
CRITERIA = ["l1", "l2", "activation", "taylor", "random"]
MOST_DIFFERENCE = 1e-4


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
    options = ("--prompt-tokens", 8, "--new-tokens", 16, "--context", 64, "--repetitions", 1, "--num-threads", threads)
    for line in run("bench", "--model", model, *options).splitlines():
        measured = json.loads(line)
        if measured["phase"] == "decode":
            return measured["tokens_per_second"]["median"]
    sys.exit("bench printed no decode line")


def decode_rates(models: list, threads: int, rounds: int) -> list:
    """Medians of several rounds in turn, so that what else the machine does hits all models alike."""
    measured = [[decode_rate(model, threads) for model in models] for _ in range(rounds)]
    return [statistics.median(of_model) for of_model in zip(*measured)]


def prune(model: Path, share: float, criterion: str, output: Path) -> None:
    calibration = ("--calibration", TEXTS / "calibration.txt") if criterion in ("activation", "taylor") else ()
    arguments = ("--intermediate", share, "--criterion", criterion, *calibration)
    run("prune", "--model", model, "--output", output, *arguments)


def row(name: str, model: Path, rate: float, ids: torch.Tensor, scratch: Path) -> str:
    outputs = forward(model, ids, scratch)
    found = json.loads(run("inspect", model, "--json"))
    perplexity = math.exp(outputs["loss"].item())
    difference = difference_from_python(model, ids, outputs["logits"])
    if not difference <= MOST_DIFFERENCE:
        sys.exit(f"{name}: logits differ from Python's by {difference:.1e} of the largest, above {MOST_DIFFERENCE:.0e}")
    sizes = f"{found['parameters']:,} | {found['bytes']:,}"
    return f"| {name} | {sizes} | {rate:.1f} | {perplexity:.1f} | {difference:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "SmolLM2-135M-Instruct")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=2, help="for the decode rates")
    parser.add_argument("--rounds", type=int, default=9, help="of decoding with every model in turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = {"(unpruned)": options.model} | {criterion: scratch / criterion for criterion in CRITERIA}
        for criterion in CRITERIA:
            prune(options.model, options.share, criterion, models[criterion])
        rates = decode_rates(list(models.values()), options.threads, options.rounds)
        ids = ids_of(options.model)
        print(f"{options.share:.0%} of the channels of each MLP removed; perplexity over {ids.shape[1]} tokens")
        print(f"decoding with {options.threads} thread(s), median of {options.rounds} rounds in turn\n")
        print("| criterion | parameters | bytes | tokens/s | perplexity | logits against Python |")
        print("|---|---|---|---|---|---|")
        for (name, model), rate in zip(models.items(), rates):
            print(row(name, model, rate, ids, scratch), flush=True)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main()
