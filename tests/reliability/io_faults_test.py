"""Every save of the program with a fault at every call that touches the folder it saves into.

After each fault the folder holds the files of the save before or of the new one, whole, with their tokenizer: for a
reader that follows docs/files.md at once, for every program after the folder was opened by ours.

    io_faults_test.py [--errors EIO,ENOSPC,...] [--every] [unittest's arguments]     --every: trainings at every call, too
"""

import errno
import json
import os
import shutil
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

import torch
from fork_server import ForkServer, files, files_behind_the_journal
from program import PROGRAM, ProgramTest, read_golden, under
from safetensors.torch import load_file, save_file

PRELOAD = os.environ["IO_FAULTS"]
# All take the same way through the program, so one is enough for every day.
ERRORS = ["EIO"]
TOKENS = 700  # of the tokenizer
STRIDE = 15  # calls of a training from one that fails to the next


class FaultsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()
        self.target = self.folder / "target"

    def server(self, *arguments) -> ForkServer:
        server = ForkServer(PRELOAD, str(PROGRAM), list(arguments), self.target, self.scratch)
        self.addCleanup(server.close)
        return server

    def talking(self, name: str, seed: int, family: str = "llama") -> Path:
        """A small model with a tokenizer whose folder differs from that of every other name in each file."""
        golden = {"llama": "models/llama_gqa", "gptj": "models/gptj_cached_steps"}[family]
        metadata, tensors = read_golden(golden)
        config = json.loads(metadata["config"])
        generator = torch.Generator().manual_seed(seed)

        def drawn(tensor):
            shape = [TOKENS if size == config["vocab_size"] else size for size in tensor.shape]
            return torch.randn(shape, generator=generator)

        weights = {key: drawn(tensor) for key, tensor in under(tensors, "weights.").items()}
        folder = self.write_model(config | {"vocab_size": TOKENS, "our_own": name}, weights, name)
        self.add_tokenizer(folder)
        config = folder / "tokenizer_config.json"
        config.write_text(config.read_text().replace("{", f'{{"our_own": "{name}", ', 1))
        return folder

    def reset(self, content: Path | None) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        if content is not None:
            shutil.copytree(content, self.target)

    def points(self, save: ForkServer, start: Path | None):
        """The new files, and the number of calls that an undisturbed save makes."""
        self.reset(start)
        run = save.run()
        self.assertEqual(run.status, 0, run.error)
        return files(self.target), run.calls


class IoFaultsTest(FaultsTest):
    def check(self, old: dict, new: dict, reader: ForkServer | None, what: str) -> None:
        found = files_behind_the_journal(self.target) if self.target.exists() else {}
        self.assertIn(found, (old, new), f"{what}: {sorted(found)}")
        # Where nothing is left to do the files are one set byte for byte, which loads.
        if reader is not None and (self.target / ".saving-journal").exists():
            run = reader.run()
            self.assertEqual(run.status, 0, f"{what}: {run.error}")
            self.assertEqual(files(self.target), found, what)

    def every_point(self, save: ForkServer, start: Path | None, reader: ForkServer | None) -> None:
        old = files(start) if start is not None else {}
        new, calls = self.points(save, start)
        self.assertNotEqual(old, new)
        self.assertGreater(calls, 10)
        modes = [*(str(getattr(errno, name)) for name in ERRORS), "kill"]
        for mode in modes:
            for call in range(1, calls + 1):
                self.reset(start)
                run = save.run(call, mode)
                if mode != "kill":
                    self.assertIn(run.status, (0, 1), f"call {call}: {run.error}")
                    self.assertEqual(run.status == 1, "error: " in run.error, run.error)
                self.check(old, new, reader, f"call {call} of {calls}, mode {mode}")
            # What attempts that ended in the middle left is no obstacle to the next one, which leaves nothing behind.
            self.reset(start)
            save.run(calls // 2, mode)
            self.assertEqual(save.run().status, 0)
            self.assertEqual([path.name for path in self.target.iterdir() if path.name[0] == "."], [])

    def every_stop(self, save: ForkServer, start: Path, reader: ForkServer) -> None:
        """A reader beside a save that stands still at any call finds the one set or the other, and never fails."""
        new, calls = self.points(save, start)
        outputs = [reader.run().output]
        self.reset(start)
        outputs.append(reader.run().output)
        self.assertNotEqual(*outputs)

        def read():
            run = reader.run()
            self.assertEqual(run.status, 0, run.error)
            self.assertIn(run.output, outputs)

        for call in range(1, calls + 1):
            self.reset(start)
            self.assertEqual(save.run(call, "stop", read).status, 0)
            self.assertEqual(files(self.target), new)

    def inspect(self) -> ForkServer:
        return self.server("inspect", self.target, "--json")

    def test_convert_over_a_model_of_another_family(self):
        save = self.server("convert", "--model", self.talking("new", 1, "gptj"), "--output", self.target)
        old = self.talking("old", 2)
        (old / "added_tokens.json").write_text("{}")
        self.every_point(save, old, self.inspect())
        self.every_stop(save, old, self.server("generate", "--model", self.target, "--prompt", "a b", "--quiet",
                                               "--max-new-tokens", 2, "--eos-token-id", "[]"))

    def test_convert_into_shards_over_as_many_shards(self):
        sources = [self.talking(name, seed) for seed, name in enumerate(("old", "new"))]
        shards = ("--max-shard-size", "40KB")
        old = self.folder / "sharded"
        self.run_program("convert", "--model", sources[0], "--output", old, *shards)
        save = self.server("convert", "--model", sources[1], "--output", self.target, *shards)
        self.every_point(save, old, self.inspect())

    def test_convert_into_a_new_folder(self):
        save = self.server("convert", "--model", self.talking("new", 1), "--output", self.target)
        self.every_point(save, None, self.inspect())

    def test_convert_over_an_adapter(self):
        old = self.folder / "adapter"
        old.mkdir()
        (old / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        save_file({"a": torch.zeros(2)}, old / "adapter_model.safetensors")
        save = self.server("convert", "--model", self.talking("new", 1), "--output", self.target)
        self.every_point(save, old, None)

    def test_prune_in_place(self):
        save = self.server("prune", "--model", self.target, "--output", self.target, "--intermediate", 0.5, "--quiet")
        self.every_point(save, self.talking("old", 1), self.inspect())

    def test_prune_the_vocabulary_over_another_model(self):
        model, keep = self.talking("model", 1), self.folder / "keep.txt"
        keep.write_text("\n".join(map(str, range(60))))
        save = self.server("prune", "--model", model, "--output", self.target, "--vocab", keep, "--quiet")
        self.every_point(save, self.talking("old", 2), self.inspect())

    def test_tensors_of_a_forward(self):
        ids = self.folder / "in.safetensors"
        save_file({"input_ids": torch.arange(6)[None]}, ids)
        self.target.mkdir()
        output = self.target / "out.safetensors"
        save = self.server("forward", "--model", self.model(), "--inputs", ids, "--output", output)
        old = self.folder / "old"
        old.mkdir()
        save_file({"logits": torch.zeros(1)}, old / "out.safetensors")
        self.every_point(save, old, None)

    def test_a_pruning_plan(self):
        old = self.folder / "old"
        old.mkdir()
        (old / "plan.json").write_text('{"version": 1}')
        self.reset(old)
        save = self.server("prune", "--model", self.model(), "--intermediate", 0.5, "--dry-run", "--save-plan",
                           self.target / "plan.json")
        self.every_point(save, old, None)


class TrainingFaultsTest(FaultsTest):
    """A training writes checkpoints, then its result. Whatever happens, it can be gone on with, to the same result."""

    def finetune(self, *options) -> tuple:
        text = self.folder / "text.txt"
        text.write_text("The library opens a folder and reads what is in it. " * 20)
        data = ("--train-file", text, "--seq-length", 16, "--batch-size", 1, "--learning-rate", "1e-2")
        return ("finetune", "--model", self.model_folder, "--output", self.target, *data, *options, "--quiet")

    def whole_checkpoints(self, what: str) -> list:
        """Every checkpoint that says it is one has all files of one."""
        found = [path for path in self.target.glob("checkpoint-*") if (path / "training_state.safetensors").exists()]
        for checkpoint in found:
            self.assertEqual(set(files(checkpoint)), self.checkpoint_files, f"{what}: {checkpoint.name}")
        return found

    def every_few_points(self, *options) -> None:
        self.model_folder = self.talking("base", 1)
        options = ("--max-steps", 3, "--save-every", 1, *options)
        save, resume = self.server(*self.finetune(*options)), self.server(*self.finetune(*options, "--resume"))
        new, calls = self.points(save, None)
        self.checkpoint_files = set(files(self.target / "checkpoint-3"))
        for mode in (*(str(getattr(errno, name)) for name in ERRORS), "kill"):
            for call in range(1, calls + 1, STRIDE):
                what = f"call {call} of {calls}, mode {mode}"
                self.reset(None)
                run = save.run(call, mode)
                found = files_behind_the_journal(self.target) if self.target.exists() else {}
                self.assertIn(found, ({}, new), f"{what}: {sorted(found)}")
                self.assertTrue(run.status != 0 or found == new, what)
                run = (resume if self.target.exists() and self.whole_checkpoints(what) else save).run()
                self.assertEqual(run.status, 0, f"{what}: {run.error}")
                self.assertEqual(files(self.target), new, what)

    def test_a_training(self):
        self.every_few_points()

    def test_adapters(self):
        self.every_few_points("--lora-r", 2)

    def test_merged_adapters(self):
        self.every_few_points("--lora-r", 2, "--merge")


if __name__ == "__main__":
    if "--every" in sys.argv:
        sys.argv.remove("--every")
        STRIDE = 1
    if "--errors" in sys.argv:
        at = sys.argv.index("--errors")
        ERRORS = sys.argv[at + 1].split(",")
        del sys.argv[at : at + 2]
    unittest.main()
