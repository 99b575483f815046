#!/usr/bin/env python3
"""Real trainings by the program and by a plain loop over transformers, one after the other, with the same data and settings.

    scripts/bench/training_runs.py bible        SmolLM2-135M on the King James Bible: fp32 with held-out perplexity, then bf16 for speed
    scripts/bench/training_runs.py sentiment    SmolLM2-135M as a classifier of film review snippets

Prints a table of seconds, tokens/s, peak memory and results; the curves go to docs/training-<run>.svg, logs to models/training-runs. Needs
scripts/data/prepare_smollm2.py and scripts/data/prepare_training_data.py to have run, and an idle machine.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Some virtual machines report AMX without its tile table; torch's bf16 products then end the process.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

ROOT = Path(__file__).resolve().parents[2]
DATA, RUNS = ROOT / "models" / "training-data", ROOT / "models" / "training-runs"
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct"
CLASSIFIER = RUNS / "classifier-start"

# Settings both sides share; `dtype` is that of the weights, `bf16` autocast.
BIBLE = dict(model=SMOLLM2, seq_length=256, batch_size=4, learning_rate=5e-5, weight_decay=0.01)
SETTINGS = {
    "bible": BIBLE | dict(max_steps=16, eval_steps=8, dtype="float32", bf16=False),
    "bible-bf16": BIBLE | dict(max_steps=12, eval_steps=0, dtype="bfloat16", bf16=False),
    "sentiment": dict(
        model=CLASSIFIER, seq_length=64, batch_size=16, learning_rate=5e-5, weight_decay=0.01, max_steps=60, eval_steps=30, dtype="float32", bf16=True
    ),
}


def files_of(name: str) -> tuple[Path, Path]:
    stem, ending = ("bible", "txt") if name.startswith("bible") else ("sentiment", "jsonl")
    return DATA / f"{stem}.train.{ending}", DATA / f"{stem}.eval.{ending}"


# --- the program ---


def program_command(name: str, program: str) -> list:
    settings = SETTINGS[name]
    train, held_out = files_of(name)
    options = {key: settings[key] for key in ("model", "seq_length", "batch_size", "learning_rate", "weight_decay", "max_steps", "dtype")}
    command = [program, "finetune", "--train-file", train, "--output", RUNS / f"{name}-out", "--no-shuffle", "--quiet"]
    for key, value in options.items():
        command += [f"--{key.replace('_', '-')}", value]
    if settings["eval_steps"]:
        command += ["--eval-file", held_out, "--eval-steps", settings["eval_steps"]]
    if name == "sentiment":
        command += ["--task", "sequence-classification"]
    command += ["--bf16"] if settings["bf16"] else []
    return [str(word) for word in [*command, "--log-file", log_of(name, "libtransformers")]]


def run_program(name: str, program: str) -> dict:
    shutil.rmtree(RUNS / f"{name}-out", ignore_errors=True)
    start = time.perf_counter()
    process = subprocess.Popen(program_command(name, program))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{name}: the program failed")
    return summary(name, "libtransformers", time.perf_counter() - start, usage.ru_maxrss * 1024)


# --- the loop over transformers ---


def run_python(name: str) -> dict:
    """In a process of its own, so that its peak of memory is its own."""
    output = subprocess.run([sys.executable, __file__, name, "--python-side"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def python_side(name: str) -> None:
    start = time.perf_counter()
    import torch

    settings = SETTINGS[name]
    torch.manual_seed(0)
    model, batches, held_out = load_task(name)
    decay = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [dict(params=decay, weight_decay=settings["weight_decay"]), dict(params=spared, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / settings["max_steps"])
    with log_of(name, "transformers").open("w") as log:
        if held_out:
            write(log, dict(step=0) | evaluate(model, held_out, settings))
        for step, batch in zip(range(1, settings["max_steps"] + 1), batches):
            write(log, dict(step=step) | train_step(model, batch, optimizer, schedule, settings))
            if held_out and step % settings["eval_steps"] == 0:
                write(log, dict(step=step) | evaluate(model, held_out, settings))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(summary(name, "transformers", time.perf_counter() - start, peak)))


def precision(settings: dict):
    import torch

    return torch.autocast("cpu", torch.bfloat16) if settings["bf16"] else contextlib.nullcontext()


def train_step(model, batch: dict, optimizer, schedule, settings: dict) -> dict:
    import torch

    start = time.perf_counter()
    model.train()
    with precision(settings):
        loss = model(**batch).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    rate = schedule.get_last_lr()[0]
    schedule.step()
    optimizer.zero_grad()
    tokens = batch["input_ids"].numel()
    return dict(loss=loss.item(), learning_rate=rate, grad_norm=norm.item(), tokens_per_second=tokens / (time.perf_counter() - start))


def evaluate(model, batches: list, settings: dict) -> dict:
    import torch

    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad(), precision(settings):
        for batch in batches:
            output = model(**batch)
            classes = batch["labels"].ndim == 1
            items = len(batch["labels"]) * (1 if classes else batch["labels"].shape[1] - 1)
            loss, count = loss + output.loss.item() * items, count + items
            right += (output.logits.argmax(-1) == batch["labels"]).sum().item() if classes else 0
    figures = dict(eval_loss=loss / count)
    return figures | (dict(eval_accuracy=right / count) if classes else dict(perplexity=2.718281828459045 ** (loss / count)))


def load_task(name: str) -> tuple:
    import transformers

    settings = SETTINGS[name]
    kind = transformers.AutoModelForSequenceClassification if name == "sentiment" else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(settings["model"], dtype=settings["dtype"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(settings["model"])
    train, held_out = files_of(name)
    make = classified if name == "sentiment" else blocks
    return model, make(tokenizer, train, settings), list(make(tokenizer, held_out, settings)) if settings["eval_steps"] else []


def blocks(tokenizer, file: Path, settings: dict):
    """The text tokenised whole, cut into blocks, as run_clm does."""
    import torch

    ids = torch.tensor(tokenizer(file.read_text(), verbose=False)["input_ids"])
    rows = ids[: len(ids) // settings["seq_length"] * settings["seq_length"]].view(-1, settings["seq_length"])
    for batch in rows.split(settings["batch_size"]):
        yield dict(input_ids=batch, labels=batch)


def classified(tokenizer, file: Path, settings: dict):
    import torch

    samples = [json.loads(line) for line in file.read_text().splitlines()]
    for i in range(0, len(samples), settings["batch_size"]):
        part = samples[i : i + settings["batch_size"]]
        texts = [sample["text"] for sample in part]
        encoded = tokenizer(texts, truncation=True, max_length=settings["seq_length"], padding=True, padding_side="right", return_tensors="pt")
        yield dict(encoded) | dict(labels=torch.tensor([sample["label"] for sample in part]))


def make_classifier() -> None:
    """Both sides begin with the same head."""
    if CLASSIFIER.exists():
        return
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(SMOLLM2, num_labels=2, dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(SMOLLM2)
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.save_pretrained(CLASSIFIER)
    model.save_pretrained(CLASSIFIER)


# --- both ---


def log_of(name: str, side: str) -> Path:
    return RUNS / name / f"{side}.jsonl"


def write(log, entry: dict) -> None:
    log.write(json.dumps(entry) + "\n")
    log.flush()


def summary(name: str, side: str, seconds: float, peak: int) -> dict:
    entries = [json.loads(line) for line in log_of(name, side).read_text().splitlines()]
    steps = [entry for entry in entries if "loss" in entry]
    evaluations = [entry for entry in entries if "eval_loss" in entry]
    # The first steps fill caches and optimizer states.
    rate = statistics.median(entry["tokens_per_second"] for entry in steps[2:])
    losses = [entry["loss"] for entry in steps]
    return dict(seconds=seconds, tokens_per_second=rate, peak_bytes=peak, losses=losses, evaluations=evaluations)


def print_rows(name: str, ours: dict, python: dict) -> None:
    print(f"\n{name}: tokens/s {ours['tokens_per_second'] / python['tokens_per_second']:.2f} times those of transformers")
    print("| | seconds | tokens/s | peak MB | first and last loss |\n|---|---|---|---|---|")
    for side, run in (("libtransformers", ours), ("transformers", python)):
        print(f"| {side} | {run['seconds']:.0f} | {run['tokens_per_second']:.0f} | {run['peak_bytes'] / 1e6:.0f} | {run['losses'][0]:.4f}, {run['losses'][-1]:.4f} |")
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours["losses"], python["losses"]))
    print(f"largest relative difference of a step's loss: {worst:.1e}")
    for side, run in (("libtransformers", ours), ("transformers", python)):
        for entry in run["evaluations"]:
            print(side, json.dumps(entry))


def compare(name: str, program: str) -> None:
    (RUNS / name).mkdir(parents=True, exist_ok=True)
    python = run_python(name)
    print_rows(name, run_program(name, program), python)


def draw(name: str, program: str) -> None:
    logs = [log_of(name, side) for side in ("libtransformers", "transformers")]
    subprocess.run([program, "plot", *logs, "-o", ROOT / "docs" / f"training-{name}.svg", "--columns", "loss,eval_loss"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=[*SETTINGS])
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/transformers-cpp"))
    parser.add_argument("--python-side", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.python_side:
        python_side(args.run)
        return
    if shutil.which(args.program) is None:
        parser.error(f"--program: {args.program} is no program")
    if args.run == "sentiment":
        make_classifier()
    compare(args.run, args.program)
    if args.run == "bible":
        compare("bible-bf16", args.program)
    draw(args.run, args.program)


if __name__ == "__main__":
    main()
