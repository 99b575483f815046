"""Measures Python transformers as `transformers-cpp bench` measures this library, in turns with it, and prints the ratios.

    scripts/bench/bench_transformers.py --config configs/bench-llama-1.1b.json --program build/release/bin/transformers-cpp

Both sides: random weights in the config's dtype written once to a folder, last-position logits in prefill, the same context and number of new tokens,
one warm-up and the median of the repetitions, the same number of threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# Some virtual machines report AMX without its tile table; torch's bf16 products then end the process.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

import torch
import transformers


def median_rate(tokens: int, repetitions: int, work) -> float:
    seconds = []
    for _ in range(repetitions + 1):
        seconds.append(work())
    return tokens / statistics.median(seconds[1:])


def prefill(model, tokens: int):
    ids = torch.randint(model.config.vocab_size, (1, tokens))

    def work() -> float:
        start = time.perf_counter()
        model(input_ids=ids, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start

    return work


def decode(model, context: int, new_tokens: int):
    ids = torch.randint(model.config.vocab_size, (1, context))

    def work() -> float:
        outputs = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        start = time.perf_counter()
        for _ in range(new_tokens):
            outputs = model(
                input_ids=outputs.logits.argmax(-1), past_key_values=outputs.past_key_values, use_cache=True
            )
        return time.perf_counter() - start

    return work


def python_rates(folder: Path, attn: str, args) -> dict:
    start = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", attn_implementation=attn).eval()
    rates = {"load_seconds": time.perf_counter() - start}
    with torch.inference_mode():
        for tokens in args.prompt_tokens:
            rates[f"prefill_{tokens}"] = median_rate(tokens, args.repetitions, prefill(model, tokens))
        rates["decode"] = median_rate(args.new_tokens, args.repetitions, decode(model, args.context, args.new_tokens))
    return rates


def our_rates(folder: Path, args) -> dict:
    command = [args.program, "bench", "--model", folder, "--num-threads", args.threads, "--repetitions", args.repetitions]
    command += ["--prompt-tokens", ",".join(map(str, args.prompt_tokens))]
    command += ["--new-tokens", args.new_tokens, "--context", args.context]
    output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    rates = {}
    for line in map(json.loads, output.splitlines()):
        print("  ", json.dumps(line), flush=True)
        if line["phase"] == "load":
            rates["load_seconds"] = line["seconds"]
        elif line["phase"] in ("prefill", "decode"):
            name = f"prefill_{line['tokens']}" if line["phase"] == "prefill" else "decode"
            rates[name] = line["tokens_per_second"]["median"]
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default="configs/bench-llama-1.1b.json")
    parser.add_argument("--program", default="build/release/bin/transformers-cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = transformers.AutoConfig.for_model(**json.loads(args.config.read_text()))
        transformers.AutoModelForCausalLM.from_config(config, dtype=config.dtype).save_pretrained(folder)
        for turn in range(args.turns):
            ours = our_rates(folder, args)
            for attn in ("eager", "sdpa") if config.model_type == "llama" else ("eager",):
                theirs = python_rates(folder, attn, args)
                for name, rate in theirs.items():
                    ratio = rate / ours[name] if name == "load_seconds" else ours[name] / rate
                    print(f"turn {turn} {name}: ours {ours[name]:.4g}, transformers {attn} {rate:.4g}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
