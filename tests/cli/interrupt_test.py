"""Ctrl-C and sudden death: text ends cleanly, a folder being written stays whole."""

import json
import signal
import subprocess
import time
import unittest
from pathlib import Path

import torch
from program import PROGRAM, ProgramTest, read_golden, under
from safetensors.torch import load_file

ENDLESS = ("--max-new-tokens", 1_000_000, "--eos-token-id", "[]")


class InterruptTest(ProgramTest):
    def launch(self, *arguments, **pipes) -> subprocess.Popen:
        command = [str(PROGRAM), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **pipes)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, process, watches: bool) -> None:
        """Until the process catches Ctrl-C, or leaves it to the system."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            if bool(int(fields["SigCgt"], 16) >> (signal.SIGINT - 1) & 1) == watches:
                return
            time.sleep(0.01)
        self.fail(f"Ctrl-C is {'not' if watches else 'still'} watched for, exit status {process.poll()}")

    def ending_model(self) -> Path:
        """A model of which every token is an end token, unless the command line says otherwise."""
        model = self.talking_model()
        (model / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(700))}))
        return model

    def interrupted(self, *arguments) -> str:
        """Standard error of a `generate` without an end, stopped once it runs."""
        process = self.launch("generate", *arguments, *ENDLESS)
        self.wait_for(process, watches=True)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)
        return error.decode()

    def test_ctrl_c_ends_the_text_and_keeps_the_account(self):
        process = self.launch("generate", "--model", self.ending_model(), "--prompt", "The library", *ENDLESS)
        text = b""
        while len(text) < 64:  # more than a token has
            chunk = process.stdout.read(64)
            self.assertNotEqual(chunk, b"", "the text ended by itself")
            text += chunk
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)
        self.assertIn("tokens/s", error.decode())

    def test_ctrl_c_ends_rows_that_are_not_streamed_and_writes_them(self):
        model, ids = self.ending_model(), self.tensors(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]))
        output = self.folder / "out.safetensors"
        cases = {
            "ids": (("--input-ids", ids), 2),
            "beams": (("--prompt", "The library", "--num-beams", 3), 1),
            "sequences": (("--prompt", "The library", "--do-sample", "--num-return-sequences", 3), 3),
        }
        for name, (arguments, rows) in cases.items():
            with self.subTest(name):
                self.assertIn("tokens/s", self.interrupted("--model", model, *arguments, "--output", output))
                self.assertEqual(load_file(output)["sequences"].shape[0], rows)
                output.unlink()

    def test_ctrl_c_between_two_turns_ends_a_conversation(self):
        options = ("--interactive", "--max-new-tokens", 2)
        process = self.launch("generate", "--model", self.talking_model(), *options, stdin=subprocess.PIPE)
        self.addCleanup(process.stdin.close)
        process.stdin.write(b"Hello\n")
        while b"memory:" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        self.wait_for(process, watches=False)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=60), -signal.SIGINT)

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
