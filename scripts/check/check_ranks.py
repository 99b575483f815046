#!/usr/bin/env python3
"""Trainings on several ranks that are killed, stopped or disagree at random moments.

Every attempt must end within its timeout, leave checkpoints that are whole, and go on bit-equal to a run that nothing
disturbed. Prints a line an attempt; exit status 1 when one failed.

    scripts/check/check_ranks.py [--program P] [--count 20] [--seed 0] [--ranks 2]
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "cli"))

import torch
from program import read_golden, under
from safetensors.torch import load_file, save_file

STEPS, TIMEOUT = 30, 10


class Training:
    def __init__(self, program: str, folder: Path, ranks: int):
        self.program, self.folder, self.ranks = program, folder, ranks
        metadata, tensors = read_golden("models/llama_gqa")
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text(metadata["config"])
        save_file(under(tensors, "weights."), self.model / "model.safetensors", {"format": "pt"})
        self.ids = folder / "ids.safetensors"
        ids = torch.randint(1, json.loads(metadata["config"])["vocab_size"], (64, 24))
        save_file({"input_ids": ids}, self.ids)

    def arguments(self, output: Path, *more, **changed) -> list:
        options = {"max_steps": STEPS, "save_every": 3, "batch_size": 4, "learning_rate": 1e-3} | changed
        options |= {"join_timeout": TIMEOUT, "rank_timeout": TIMEOUT}
        options |= {"model": self.model, "train_ids": self.ids, "output": output}
        spelt = [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), value)]
        return [str(part) for part in (self.program, "finetune", *spelt, "--quiet", *more)]

    def start(self, output: Path, *more, of_rank=lambda rank: {}) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = []
        for rank in range(self.ranks):
            places = {"RANK": rank, "WORLD_SIZE": self.ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | {key: str(value) for key, value in places.items()}
            arguments = self.arguments(output, *more, **of_rank(rank))
            processes.append(subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True))
        return processes

    def finish(self, processes, seconds: float) -> list[tuple[int, str]]:
        """Status and errors of each rank; a rank that has not ended by then is killed and has status None."""
        deadline, results = time.monotonic() + seconds, []
        for process in processes:
            try:
                _, error = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
                results.append((process.returncode, error))
            except subprocess.TimeoutExpired:
                process.kill()
                results.append((None, process.communicate()[1]))
        return results

    def whole_checkpoints(self, output: Path) -> list[Path]:
        """Those that say they are one; the first save of a folder may have ended in the middle."""
        found = [path for path in output.glob("checkpoint-*") if (path / "training_state.safetensors").exists()]
        for checkpoint in found:
            subprocess.run([self.program, "inspect", checkpoint, "--json"], check=True, stdout=subprocess.DEVNULL)
        return found

    def weights(self, output: Path) -> dict:
        return load_file(output / "model.safetensors")


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def disturb(processes, draw: random.Random, seconds: float) -> str:
    time.sleep(draw.uniform(0, seconds))
    victim = draw.randrange(len(processes))
    what = draw.choice(("killed", "killed", "stopped", "interrupted"))
    signals = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "interrupted": signal.SIGTERM}
    processes[victim].send_signal(signals[what])
    if what == "stopped":
        # The others must not wait for it for ever; it itself goes on afterwards, into their absence.
        time.sleep(TIMEOUT + 2)
        processes[victim].send_signal(signal.SIGCONT)
    return f"rank {victim} {what}"


def attempt(training: Training, draw: random.Random, seconds: float, expected: dict, output: Path) -> str:
    """What happened; throws when it should not have."""
    processes = training.start(output)
    event = disturb(processes, draw, seconds)
    results = training.finish(processes, 3 * TIMEOUT + seconds)
    if any(status is None for status, _ in results):
        raise AssertionError(f"{event}: a rank hangs: {results}")
    checkpoints = training.whole_checkpoints(output)
    if all(status == 0 for status, _ in results):
        event += " at the end"
    else:
        event += f", {len(checkpoints)} checkpoints" if checkpoints else ", before the first checkpoint"
        more = ["--resume"] if checkpoints else []
        results = training.finish(training.start(output, *more), 120)
        if any(status != 0 for status, _ in results):
            raise AssertionError(f"{event}: going on failed: {results}")
    if not equal(training.weights(output), expected):
        raise AssertionError(f"{event}: the weights differ from those of a run that nothing disturbed")
    return event


def torchrun(training: Training, draw: random.Random, seconds: float, expected: dict, output: Path) -> str:
    """A worker dies under torchrun, which starts all again."""
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", str(training.ranks)]
    command += ["--max-restarts", "3", "--monitor-interval", "0.2", "--standalone"]
    process = subprocess.Popen([*command, *training.arguments(output)], stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    pids = []
    while not pids and process.poll() is None:
        time.sleep(0.1)
        found = ["pgrep", "-f", f"^{training.program} finetune .*{output}"]
        pids = [int(pid) for pid in subprocess.run(found, capture_output=True, text=True).stdout.split()]
    time.sleep(draw.uniform(0, seconds))
    killed = False
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(draw.choice(pids), signal.SIGKILL)
        killed = True
    try:
        _, error = process.communicate(timeout=180)
    except subprocess.TimeoutExpired as hang:
        process.terminate()  # torchrun then ends its workers
        raise AssertionError(f"torchrun hangs: {process.communicate()[1][-2000:]}") from hang
    if process.returncode != 0:
        raise AssertionError(f"torchrun: status {process.returncode}: {error[-2000:]}")
    if not equal(training.weights(output), expected):
        raise AssertionError("torchrun: the weights differ")
    return f"torchrun: {'a worker killed' if killed else 'nothing left to kill'}"


def disagree(training: Training, draw: random.Random, output: Path) -> str:
    option, values = draw.choice([("learning_rate", (1e-3, 2e-3)), ("seed", (1, 2)), ("weight_decay", (0.0, 0.1)),
                                  ("batch_size", (2, 4)), ("max_steps", (20, 21))])
    results = training.finish(training.start(output, of_rank=lambda rank: {option: values[rank % 2]}), 3 * TIMEOUT)
    if any(status != 1 or "the ranks disagree on" not in error for status, error in results):
        raise AssertionError(f"ranks with other {option}: {results}")
    return f"ranks with other {option} are refused"


def main() -> int:
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=str(root / "build/release/bin/transformers-cpp"))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2)
    options = parser.parse_args()
    program = str(Path(options.program).resolve())
    draw, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        training = Training(program, Path(temporary), options.ranks)
        for _ in range(2):  # the first run reads the program from the disk
            shutil.rmtree(Path(temporary) / "whole", ignore_errors=True)
            start = time.monotonic()
            for status, error in training.finish(training.start(Path(temporary) / "whole"), 120):
                assert status == 0, error
            seconds = time.monotonic() - start
        expected = training.weights(Path(temporary) / "whole")
        for number in range(options.count):
            for kind in (attempt, torchrun, disagree):
                output = Path(temporary) / "output"
                shutil.rmtree(output, ignore_errors=True)
                try:
                    arguments = () if kind is disagree else (seconds, expected)
                    print(f"{number} {kind(training, draw, *arguments, output)}", flush=True)
                except (AssertionError, OSError, subprocess.SubprocessError) as error:
                    failures += 1
                    print(f"{number} FAILED {error}", flush=True)
    print(f"{3 * options.count} attempts, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
