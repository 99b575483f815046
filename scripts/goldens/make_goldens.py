#!/usr/bin/env python3
"""Writes the committed reference results under tests/golden/ with transformers, or checks that they can be made again.

    make_goldens.py               write all files
    make_goldens.py --only llama  write the files of one subject
    make_goldens.py --check       write into a temporary folder and compare: names, metadata, weights and inputs exactly, results to
                                  1e-6 of the largest value (bfloat16 and float16: two units in the last place)

Runs in the environment of scripts/setup.sh --dev. The subject `legacy` needs transformers 4.37.2, `metrics` scikit-learn and
seqeval, which are put under build/ once.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The same kernels on every machine. Some virtual machines announce AMX without describing its tiles, where oneDNN then faults.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import torch
import transformers
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT / "scripts")  # the modules beside this file are the package goldens
GOLDEN = ROOT / "tests" / "golden"
# Module in scripts/goldens: folder in tests/golden.
SUBJECTS = {
    "llama": "models",
    "gptj": "models",
    "functions": "functions",
    "generation": "generation",
    "legacy": "legacy",
    "training": "training",
    "trainer": "training",
    "adamw_8bit": "training",
    "metrics": "training",
    "lora": "lora",
    "quantization": "quantization",
    "pruning": "pruning",
    "model_pruning": "model_pruning",
    "device_map": "device_map",
}

LEGACY_FOLDER = ROOT / "build" / "transformers-4.37.2"
LEGACY_PACKAGES = [
    "transformers==4.37.2",
    "tokenizers==0.15.2",
    "huggingface_hub==0.20.3",
    "numpy==1.26.4",
    "safetensors==0.4.2",
]


METRICS_FOLDER = ROOT / "build" / "metrics-packages"


def install(folder: Path, packages: list) -> None:
    if folder.exists():
        return
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        target = Path(scratch) / "packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(target), *packages], check=True)
        target.rename(folder)


def write(subject: str, golden: Path) -> None:
    folder = golden / SUBJECTS[subject]
    folder.mkdir(parents=True, exist_ok=True)
    if subject == "legacy":
        # Two versions of one package cannot share a process.
        install(LEGACY_FOLDER, LEGACY_PACKAGES)
        program = ROOT / "scripts" / "goldens" / "legacy.py"
        subprocess.run([sys.executable, str(program), str(LEGACY_FOLDER), str(folder)], check=True)
        return
    module = importlib.import_module(f"goldens.{subject}")
    if subject == "metrics":
        install(METRICS_FOLDER, module.PACKAGES)
        sys.path.append(str(METRICS_FOLDER))
    module.write(folder)


def tolerance(tensor: torch.Tensor) -> float:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return 0.0
    relative = 1e-6 if tensor.dtype == torch.float32 else 2 * torch.finfo(tensor.dtype).eps
    finite = torch.nan_to_num(tensor.float(), 0.0, 0.0, 0.0)
    return relative * max(1.0, finite.abs().max().item())


def same(name: str, expected: torch.Tensor, found: torch.Tensor) -> bool:
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return False
    if name.startswith(("weights.", "inputs.")) or not expected.is_floating_point():
        return torch.equal(expected, found)
    return torch.allclose(expected.float(), found.float(), rtol=0.0, atol=tolerance(expected), equal_nan=True)


def difference(committed: Path, made: Path) -> str | None:
    if not committed.exists() or not made.exists():
        return "is not committed" if made.exists() else "is no longer made"
    with safe_open(committed, "pt") as expected, safe_open(made, "pt") as found:
        if expected.metadata() != found.metadata():
            return "differs in its metadata"
        if sorted(expected.keys()) != sorted(found.keys()):
            return "differs in its tensor names"
        wrong = [name for name in expected.keys() if not same(name, expected.get_tensor(name), found.get_tensor(name))]
    return f"differs in {', '.join(wrong[:5])}" if wrong else None


def check(subjects: list) -> int:
    problems, count = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            write(subject, Path(folder))
        for name in sorted({SUBJECTS[subject] for subject in subjects}):
            committed, made = GOLDEN / name, Path(folder) / name
            # Two subjects share a folder; a file that was not made counts as missing only when all of them ran.
            whole = all(subject in subjects for subject in SUBJECTS if SUBJECTS[subject] == name)
            files = {path.name for path in made.iterdir()} | (
                {path.name for path in committed.glob("*")} if whole else set()
            )
            for file in sorted(files):
                count += 1
                if problem := difference(committed / file, made / file):
                    problems += 1
                    print(f"{name}/{file} {problem}")
    print(f"{count} golden files compared, {problems} differ")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=SUBJECTS, action="append", help="subject to write or check; repeatable; default: all"
    )
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    subjects = arguments.only or list(SUBJECTS)
    if arguments.check:
        return check(subjects)
    for subject in subjects:
        write(subject, GOLDEN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
