#!/usr/bin/env python3
"""Writes the committed reference results under tests/golden/ with transformers, or checks that they can be made again.

    make_goldens.py              write all files
    make_goldens.py --only llama write the files of one subject
    make_goldens.py --check      write into a temporary folder and compare: names, weights and inputs exactly, results to 1e-6
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

# The same kernels on every machine; also, some virtual machines announce AMX and then fault on it.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = {"llama": "models", "gptj": "models", "functions": "functions", "generation": "generation"}  # module in scripts/goldens: folder in tests/golden


def write(subject: str, golden: Path) -> None:
    folder = golden / SUBJECTS[subject]
    folder.mkdir(parents=True, exist_ok=True)
    importlib.import_module(f"goldens.{subject}").write(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="subject to write; repeatable; default: all")
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for subject in arguments.only or SUBJECTS:
        write(subject, ROOT / "tests/golden")
    return 0


if __name__ == "__main__":
    sys.exit(main())
