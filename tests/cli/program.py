"""What the tests of the program share: running it, and tiny model folders made from the goldens."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import safetensors
import safetensors.torch
import torch

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PROGRAM = os.environ.get("TRANSFORMERS_CPP", GOLDEN.parents[1] / "build/release/bin/transformers-cpp")


def read_golden(name: str) -> tuple[dict, dict]:
    """Metadata and tensors of tests/golden/<name>.safetensors; scripts/goldens/case.py describes the layout."""
    path = GOLDEN / f"{name}.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata(), safetensors.torch.load_file(path)


def under(tensors: dict, prefix: str) -> dict:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def model(self, golden: str = "models/llama_gqa", name: str = "model", **changes) -> Path:
        """The golden's model as a Hugging Face folder, keys of its config changed."""
        metadata, tensors = read_golden(golden)
        return self.write_model(json.loads(metadata["config"]) | changes, under(tensors, "weights."), name)

    def write_model(self, config: dict, weights: dict, name: str = "model") -> Path:
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    def talking_model(self) -> Path:
        """A random model with the tokenizer and chat template of tests/golden/tokenization/smollm2."""
        metadata, tensors = read_golden("models/llama_gqa")
        weights = under(tensors, "weights.")
        generator = torch.Generator().manual_seed(0)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = torch.randn(700, weights[name].shape[1], generator=generator)
        config = json.loads(metadata["config"]) | {"vocab_size": 700, "max_position_embeddings": 256}
        folder = self.write_model(config, weights, "talking")
        self.add_tokenizer(folder)
        return folder

    def add_tokenizer(self, folder: Path, kind: str = "smollm2") -> None:
        for file in (GOLDEN / "tokenization" / kind).iterdir():
            if file.name.startswith("tokenizer"):
                shutil.copy(file, folder)

    def tensors(self, name: str = "in.safetensors", **tensors) -> Path:
        safetensors.torch.save_file({key: tensor.clone() for key, tensor in tensors.items()}, self.folder / name)
        return self.folder / name

    def start(self, *arguments, stdin: str = "", stdout=subprocess.PIPE) -> subprocess.CompletedProcess:
        command = [str(PROGRAM), *map(str, arguments)]
        return subprocess.run(command, input=stdin.encode(), stdout=stdout, stderr=subprocess.PIPE, timeout=120)

    def run_program(self, *arguments) -> str:
        """What a run that ends well leaves on stdout."""
        result = self.start(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result.stdout.decode()

    def assert_fails(self, *arguments, status: int = 1, says: tuple = (), output: Path | None = None) -> None:
        """Ends with `status` and nothing on stdout; a failure is one line that holds every fragment of `says`."""
        result = self.start(*arguments)
        error = result.stderr.decode()
        self.assertEqual(result.returncode, status, error)
        self.assertEqual(result.stdout, b"")
        if status == 1:
            self.assertEqual([line for line in error.splitlines() if "error" in line], error.splitlines()[-1:])
            self.assertTrue(error.splitlines()[-1].startswith("error: "), error)
        for fragment in says:
            self.assertIn(fragment, error)
        if output is not None:
            self.assertFalse(output.exists(), f"{output} was written by a run that failed")

    def assert_close(self, found: dict, expected: dict) -> None:
        self.assertEqual(sorted(found), sorted(expected))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, msg=lambda text, name=name: f"{name}: {text}")
