"""Ctrl-C and sudden death: text ends cleanly, a folder being written stays whole."""

import json
import signal
import subprocess
import time
import unittest

import torch
from program import PROGRAM, ProgramTest, read_golden, under
from safetensors.torch import load_file


class InterruptTest(ProgramTest):
    def launch(self, *arguments) -> subprocess.Popen:
        process = subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_ctrl_c_ends_the_text_and_keeps_the_account(self):
        endless = ("--max-new-tokens", 1_000_000, "--eos-token-id", "[]")
        process = self.launch("generate", "--model", self.talking_model(), "--prompt", "The library", *endless)
        self.assertNotEqual(process.stdout.read(1), b"")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)
        self.assertIn("tokens/s", error.decode())

    def wide_model(self, name: str, value: float):
        """A folder of some 15 MB whose every weight is `value`, so that a mixture of two saves shows."""
        metadata, tensors = read_golden("models/llama_gqa")
        weights = {key: torch.full_like(tensor, value) for key, tensor in under(tensors, "weights.").items()}
        config = json.loads(metadata["config"]) | {"vocab_size": 60_000}
        for key in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[key] = torch.full((60_000, config["hidden_size"]), value)
        return self.write_model(config, weights, name)

    def values(self, folder) -> set:
        index = folder / "model.safetensors.index.json"
        names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
        tensors = [tensor for name in names for tensor in load_file(folder / name).values()]
        self.assertGreater(len(tensors), 3)
        return {value for tensor in tensors for value in tensor.unique().tolist()}

    def test_a_save_stopped_at_any_moment_leaves_the_old_folder_or_the_new_one(self):
        sources = {value: self.wide_model(f"source_{value}", value) for value in (1.0, 2.0)}
        output = self.folder / "output"
        shards = ("--output", output, "--max-shard-size", "2MB")
        self.run_program("convert", "--model", sources[1.0], *shards)
        start = time.monotonic()
        self.run_program("convert", "--model", sources[1.0], *shards)
        seconds = time.monotonic() - start

        moments = 16
        for moment in range(moments):
            value = 1.0 + moment % 2
            process = self.launch("convert", "--model", sources[value], *shards)
            time.sleep(seconds * (moment + 1) / moments)
            process.send_signal(signal.SIGINT if moment % 4 < 2 else signal.SIGKILL)
            process.communicate(timeout=60)
            self.assertIn(process.returncode, (0, -signal.SIGINT, -signal.SIGKILL))
            # What an interrupted save left half done is settled by whoever opens the folder next.
            self.run_program("inspect", output)
            self.assertIn(self.values(output), ({1.0}, {2.0}))

        self.run_program("convert", "--model", sources[2.0], *shards)
        self.assertEqual(self.values(output), {2.0})
        leftovers = [path.name for path in output.iterdir() if ".safetensors" not in path.name and path.suffix != ".json"]
        self.assertEqual(leftovers, [])


if __name__ == "__main__":
    unittest.main()
