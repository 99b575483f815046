"""Hostile inputs under a limit on the address space: each ends with status 1 and one line, within seconds.

The limit is what the program takes to look at a small good model, and 768 MB more; docs/files.md has the table of what each
input may cost. Every case is a function that makes the input and returns the arguments.
"""

import json
import os
import resource
import struct
import subprocess
import time
import unittest
import zipfile

import torch
from program import PROGRAM, ProgramTest

ALLOWANCE = 768 << 20
SECONDS = 60
VALUES = 4_500_000  # more than the most JSON values of a file


def safetensors_bytes(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def pickle_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def wide_tensors_pickle() -> bytes:
    """Tensors of 64 sizes each, made again and again from the same arguments."""
    storage = b"(" + pickle_text("storage") + b"ctorch\nFloatStorage\n" + pickle_text("0") + pickle_text("cpu") + b"K\x06tQq\x01"
    parts = b"](" + storage + b"(" + b"K\x01" * 64 + b"tq\x02" + b"ctorch._utils\n_rebuild_tensor_v2\nq\x03"
    parts += b"ccollections\nOrderedDict\n)Rq\x04e"
    tensor = b"h\x03(h\x01K\x00h\x02h\x02\x89h\x04tR"
    return b"\x80\x02}(" + pickle_text("parts") + parts + b"".join(pickle_text(str(i)) + tensor for i in range(150_000)) + b"u."


class BudgetsTest(ProgramTest):
    def run_limited(self, limit: int, *arguments) -> subprocess.CompletedProcess:
        def lower_limit():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        command = [str(PROGRAM), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, timeout=SECONDS, preexec_fn=lower_limit, env=environment)

    def address_space(self) -> int:
        """What `inspect` of a good model takes: found by halving, to 32 MB."""
        model = self.model(name="good")
        low, high = 64 << 20, 64 << 30
        while high - low > 32 << 20:
            middle = (low + high) // 2
            if self.run_limited(middle, "inspect", model).returncode == 0:
                high = middle
            else:
                low = middle
        return high

    # ---- inputs

    def header_of_many_tensors(self):
        entries = ",".join(f'"{i}":{{"dtype":"U8","shape":[],"data_offsets":[0,0]}}' for i in range(1_100_000))
        return self.with_weights(safetensors_bytes(b"{" + entries.encode() + b"}"))

    def header_of_much_metadata(self):
        entries = ",".join(f'"{i}":""' for i in range(2_000_000))
        return self.with_weights(safetensors_bytes(b'{"__metadata__":{' + entries.encode() + b"}}"))

    def header_that_claims_more_than_the_file(self):
        return self.with_weights(struct.pack("<Q", 99_000_000) + b"{}")

    def tensor_of_a_terabyte(self):
        size = 1 << 40
        header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        model = self.model(name=f"sparse-{len(list(self.folder.iterdir()))}")
        path = model / "model.safetensors"
        path.write_bytes(safetensors_bytes(header))
        os.truncate(path, 8 + len(header) + size)
        return "inspect", model

    def pickle_of_wide_tensors(self):
        model = self.model(name="pickle")
        (model / "model.safetensors").unlink()
        with zipfile.ZipFile(model / "pytorch_model.bin", "w") as archive:
            archive.writestr("a/data.pkl", wide_tensors_pickle())
            archive.writestr("a/data/0", bytes(24))
        return "inspect", model

    def config_of_many_values(self):
        model = self.model(name="config")
        (model / "config.json").write_text('{"model_type":"llama","x":[' + ",".join(["[]"] * 340_000) + "]}")
        return "inspect", model

    def index_of_many_values(self):
        model = self.model(name="index")
        (model / "model.safetensors").unlink()
        values = ",".join(["0"] * VALUES)
        (model / "model.safetensors.index.json").write_text('{"weight_map":{},"x":[' + values + "]}")
        return "inspect", model

    def tokenizer_of_many_values(self):
        (self.folder / "tokenizer.json").write_text('{"model":[' + ",".join(["[]"] * VALUES) + "]}")
        return "tokenize", "--model", self.folder, "--text", "a"

    def plan_of_many_values(self):
        model = self.model(name="planned")
        (self.folder / "plan.json").write_text('{"vocabulary":[' + ",".join(["0"] * VALUES) + "]}")
        return "prune", "--model", model, "--plan", self.folder / "plan.json", "--dry-run"

    def log_of_one_long_line(self):
        path = self.folder / "log.jsonl"
        path.write_text('{"step":1,"loss":[' + ",".join(["[]"] * VALUES) + "]}")
        return "plot", path

    def inputs_of_a_terabyte(self):
        _, model = self.tensor_of_a_terabyte()
        inputs = (model / "model.safetensors").rename(self.folder / "in.safetensors")
        return "forward", "--model", self.model(name="other"), "--inputs", inputs, "--output", self.folder / "out"

    def pickle_of_many_values(self):
        model = self.model(name="pickled values")
        (model / "model.safetensors").unlink()
        with zipfile.ZipFile(model / "pytorch_model.bin", "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02](" + b"]" * VALUES + b"e.")
        return "inspect", model

    # ---- files one byte longer than they may be, of zeros that no disk holds

    def generation_config(self):
        model = self.grown(self.model(name="generation") / "generation_config.json", 1 << 20).parent
        ids = self.tensors("ids.safetensors", input_ids=torch.ones(1, 2, dtype=torch.int64))
        return "generate", "--model", model, "--input-ids", ids, "--output", self.folder / "out"

    def adapter_config(self):
        model, ids = self.model(name="adapted"), torch.ones(4, 6, dtype=torch.int64)
        training = ("finetune", "--model", model, "--train-ids", self.tensors("train.safetensors", input_ids=ids), "--output",
                    self.folder / "adapter", "--lora-r", 1, "--max-steps", 2, "--save-every", 1, "--batch-size", 1)
        self.run_program(*training)
        for config in (self.folder / "adapter").glob("checkpoint-*/adapter_config.json"):
            self.grown(config, 1 << 20)
        return (*training, "--resume", "--quiet")

    def index_of_shards(self):
        model = self.model(name="shards")
        (model / "model.safetensors").unlink()
        return "inspect", self.grown(model / "model.safetensors.index.json", 64 << 20).parent

    def pruning_plan(self):
        plan = self.grown(self.folder / "plan.json", 256 << 20)
        return "prune", "--model", self.model(name="to prune"), "--plan", plan, "--dry-run"

    def tokens_to_keep(self):
        tokens = self.grown(self.folder / "keep.txt", 256 << 20)
        return "prune", "--model", self.model(name="vocabulary"), "--vocab", tokens, "--dry-run"

    def calibration_text(self):
        text = self.grown(self.folder / "calibration.txt", 256 << 20)
        model = self.talker("calibrated")
        return ("prune", "--model", model, "--intermediate", 0.5, "--criterion", "activation", "--calibration", text,
                "--dry-run")

    def prompts(self):
        return "generate", "--model", self.talker("prompted"), "--prompt-file", self.grown(self.folder / "prompts.txt", 256 << 20)

    def text_to_tokenize(self):
        return "tokenize", "--model", self.talker("told"), "--file", self.grown(self.folder / "text.txt", 2 << 30)

    def tokenizer_json(self):
        return "tokenize", "--model", self.grown(self.folder / "json" / "tokenizer.json", 64 << 20).parent, "--text", "a"

    def tokenizer_model(self):
        return "tokenize", "--model", self.grown(self.folder / "model" / "tokenizer.model", 64 << 20).parent, "--text", "a"

    def tokenizer_config(self):
        model = self.talker("configured")
        self.grown(model / "tokenizer_config.json", 16 << 20)
        return "tokenize", "--model", model, "--text", "a"

    def chat_template(self):
        model = self.talker("chatting")
        self.grown(model / "chat_template.jinja", 1 << 20)
        return "generate", "--model", model, "--chat", "--prompt", "a"

    def log_to_draw(self):
        return "plot", self.grown(self.folder / "long.jsonl", 256 << 20)

    def line_of_a_data_set(self):
        return self.trained_on(self.grown(self.folder / "lines.jsonl", 65 << 20))

    def text_to_learn(self):
        text = self.folder / "learn.txt"
        text.write_text("text\n" * 20_000)  # the start is looked at first
        return self.trained_on(self.grown(text, 64 << 30))

    def talker(self, name: str):
        return self.talking_model().rename(self.folder / name)

    def trained_on(self, data):
        return "finetune", "--model", self.talker(f"for {data.name}"), "--train-file", data, "--output", self.folder / "out"

    def grown(self, path, limit: int):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, limit + 1)
        return path

    def with_weights(self, content: bytes):
        model = self.model(name=f"weights-{len(content)}")
        (model / "model.safetensors").write_bytes(content)
        return "inspect", model

    def test_hostile_inputs_are_one_error_within_their_budget(self):
        limit = self.address_space() + ALLOWANCE
        cases = [
            (self.header_of_many_tensors, "model.safetensors"),
            (self.header_of_much_metadata, "model.safetensors"),
            (self.header_that_claims_more_than_the_file, "model.safetensors"),
            (self.tensor_of_a_terabyte, "model.safetensors"),
            (self.pickle_of_wide_tensors, "pytorch_model.bin"),
            (self.config_of_many_values, "config.json"),
            (self.index_of_many_values, "model.safetensors.index.json"),
            (self.tokenizer_of_many_values, "tokenizer.json"),
            (self.plan_of_many_values, "plan.json"),
            (self.log_of_one_long_line, "log.jsonl"),
            (self.inputs_of_a_terabyte, "in.safetensors"),
            (self.pickle_of_many_values, "pytorch_model.bin"),
        ]
        self.check(limit, cases)
        too_long = [
            (self.generation_config, "generation_config.json: expected at most 1048576 bytes"),
            (self.adapter_config, "adapter_config.json: expected at most 1048576 bytes"),
            (self.index_of_shards, "model.safetensors.index.json: expected at most 67108864 bytes"),
            (self.pruning_plan, "plan.json: expected at most 268435456 bytes"),
            (self.tokens_to_keep, "keep.txt: expected at most 268435456 bytes"),
            (self.calibration_text, "calibration.txt: expected at most 268435456 bytes"),
            (self.prompts, "prompts.txt: expected at most 268435456 bytes"),
            (self.text_to_tokenize, "text.txt: expected at most 2147483648 bytes"),
            (self.tokenizer_json, "tokenizer.json: expected at most 67108864 bytes"),
            (self.tokenizer_model, "tokenizer.model: expected at most 67108864 bytes"),
            (self.tokenizer_config, "tokenizer_config.json: expected at most 16777216 bytes"),
            (self.chat_template, "chat_template.jinja: expected at most 1048576 bytes"),
            (self.log_to_draw, "long.jsonl: expected at most 268435456 bytes"),
            (self.line_of_a_data_set, "lines.jsonl line 1: a line may have 67108864 bytes"),
            (self.text_to_learn, "learn.txt: a text may have 68719476736 bytes"),
        ]
        self.check(limit, too_long)

    def check(self, limit: int, cases: list) -> None:
        for make, names in cases:
            with self.subTest(make.__name__):
                arguments = make()
                start = time.monotonic()
                result = self.run_limited(limit, *arguments)
                error = result.stderr.decode()
                self.assertEqual(result.returncode, 1, error)
                self.assertEqual(len(error.splitlines()), 1, error)
                self.assertTrue(error.startswith("error: ") and names in error, error)
                self.assertLess(time.monotonic() - start, SECONDS)


if __name__ == "__main__":
    unittest.main()
