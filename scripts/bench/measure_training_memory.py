#!/usr/bin/env python3
"""What each way to save memory saves: peak resident memory of `transformers-cpp finetune`, a run a row of a Markdown table.

    scripts/bench/measure_training_memory.py --program build/release/bin/transformers-cpp --model models/SmolLM2-135M-Instruct

Two steps each (the second with all optimizer states there) on random tokens, fp32 weights unless a row says otherwise.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import numpy
import safetensors.numpy

CHECKPOINTING = ("--gradient-checkpointing",)
# Without it the loss goes in chunks.
ALL_LOGITS = ("--loss-chunk-rows", "0")
IN_BACKWARD = ("--step-in-backward", "--max-grad-norm", "0")
EIGHT_BIT = ("--optim", "adamw_8bit")
LORA = ("--lora-r", "8")
BF16_WEIGHTS = ("--dtype", "bfloat16")

RUNS = {
    "fp32, AdamW, all logits at once": ALL_LOGITS,
    "activation checkpointing": (*ALL_LOGITS, *CHECKPOINTING),
    "loss in chunks (the default)": (),
    "steps inside backward": (*ALL_LOGITS, *IN_BACKWARD),
    "8-bit AdamW": (*ALL_LOGITS, *EIGHT_BIT),
    "bf16 autocast": (*ALL_LOGITS, "--bf16"),
    "LoRA, rank 8": (*ALL_LOGITS, *LORA),
    "checkpointing, chunks": CHECKPOINTING,
    "… and steps inside backward": (*CHECKPOINTING, *IN_BACKWARD),
    "… and 8-bit AdamW": (*CHECKPOINTING, *IN_BACKWARD, *EIGHT_BIT),
    "… and bf16 weights, stochastic rounding": (
        *CHECKPOINTING, *IN_BACKWARD, *EIGHT_BIT, *BF16_WEIGHTS, "--low-precision", "stochastic"
    ),
    "LoRA, checkpointing, chunks": (*LORA, *CHECKPOINTING),
}


def peak_bytes(command: list) -> int:
    """Of a program that must end well. This process stays small: a child begins with what its parent holds."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}: {errors.read().decode()}")
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/bin/transformers-cpp")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seq-length", type=int, default=512)
    args = parser.parse_args()

    print("| | peak MB | of the first row |\n|---|---|---|")
    first = None
    for name, options in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            ids = numpy.random.default_rng(0).integers(100, 1000, (2 * args.batch_size, args.seq_length))
            safetensors.numpy.save_file({"input_ids": ids.astype(numpy.int64)}, Path(folder) / "ids.safetensors")
            command = [args.program, "finetune", "--model", args.model, "--train-ids", f"{folder}/ids.safetensors"]
            command += ["--output", f"{folder}/out", "--batch-size", str(args.batch_size), "--max-steps", "2", "--quiet"]
            dtype = () if "--dtype" in options else ("--dtype", "float32")
            peak = peak_bytes([*command, *dtype, *options])
        first = first or peak
        print(f"| {name} | {peak / 1e6:,.0f} | {peak / first:.0%} |", flush=True)


if __name__ == "__main__":
    main()
