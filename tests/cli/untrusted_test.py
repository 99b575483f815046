"""What strangers' files may do to the terminal, to other files, and to a process that uses them."""

import json
import os
import re
import shutil
import subprocess
import unittest

import torch
from program import PROGRAM, ProgramTest, read_golden, under
from safetensors.torch import save_file

# Moves the cursor, reorders the text, hides, or ends the line; and 5,000 characters.
EVIL = "w\x1b[2J\x07\x9b\u202e\u2066\u061c\u200b\U000e0041\nx" + "y" * 5000
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


class TerminalTest(ProgramTest):
    def assert_safe(self, *arguments, stdin: str = "") -> str:
        result = self.start(*arguments, stdin=stdin)
        for text in (result.stdout.decode(), result.stderr.decode()):
            self.assertIsNone(UNSAFE.search(text), repr(text[:2000]))
            self.assertNotIn("y" * 300, text)
        return result.stderr.decode()

    def evil_model(self, **changes):
        """A good model with a tensor, keys and values that would write on the terminal."""
        metadata, tensors = read_golden("models/llama_gqa")
        weights = under(tensors, "weights.") | {EVIL: torch.zeros(1)}
        config = json.loads(metadata["config"]) | {EVIL: EVIL, "_name_or_path": EVIL} | changes
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        return self.write_model(config, weights)

    def test_names_of_tensors_and_keys_are_escaped_and_cut(self):
        model = self.evil_model()
        ids = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64))
        self.assertIn("\\x1b", self.assert_safe("forward", "--model", model, "--inputs", ids, "--output", self.folder / "o"))
        for arguments in (("inspect", model), ("convert", "--model", model, "--output", self.folder / "c"),
                          ("prune", "--model", model, "--output", self.folder / "p", "--intermediate", "0.5")):  # fmt: skip
            self.assert_safe(*arguments)
        found = self.start("inspect", model, "--json").stdout.decode()
        self.assertIsNone(UNSAFE.search(found.rstrip("\n")))
        self.assertIn(EVIL, json.loads(found)["config"])

    def test_values_that_are_refused_are_escaped_and_cut(self):
        for key in ("model_type", "hidden_act", "torch_dtype", "problem_type", "rope_scaling", "eos_token_id", "vocab_size"):
            value = {"rope_type": EVIL, EVIL: 1} if key == "rope_scaling" else EVIL
            model = self.evil_model(**{key: value})
            for arguments in (("inspect", model), ("generate", "--model", model, "--prompt", "a")):
                with self.subTest(key=key, arguments=arguments[0]):
                    self.assert_safe(*arguments)
        model = self.evil_model(architectures=[EVIL + "ForCausalLM"])
        self.assert_safe("inspect", model)

    def test_side_files_are_escaped_and_cut(self):
        model = self.evil_model()
        tokens = {"content": EVIL, "special": True, "lstrip": 1}
        for name, content in {
            "generation_config.json": {"temperature": EVIL, EVIL: 1},
            "tokenizer.json": {"model": {"type": EVIL}, "added_tokens": [tokens]},
            "tokenizer_config.json": {"chat_template": EVIL, "added_tokens_decoder": {EVIL: tokens}},
        }.items():
            (model / name).write_text(json.dumps(content))
            with self.subTest(name=name):
                self.assert_safe("generate", "--model", model, "--prompt", "a")
                self.assert_safe("tokenize", "--model", model, "--text", "a")
                (model / name).unlink()
        (model / "model.safetensors").rename(model / "moved")
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {EVIL: EVIL, "a": EVIL.replace("\x1b", "")}}))
        self.assert_safe("inspect", model)

    def test_inputs_options_and_logs_are_escaped_and_cut(self):
        model = self.model(name="good")
        inputs = self.folder / "in.safetensors"
        save_file({"input_ids": torch.ones(1, 2, dtype=torch.int64), EVIL: torch.zeros(1)}, inputs)
        self.assert_safe("forward", "--model", model, "--inputs", inputs, "--output", self.folder / "out")
        self.assert_safe("inspect", self.folder / EVIL[:40])
        for option in ("--dtype", "--device", "--attn", "--seed", "--" + EVIL[:40]):
            self.assert_safe("forward", "--model", model, option, EVIL[:40])
        self.assert_safe(EVIL[:40])
        log = self.folder / "log\x1b[2J.jsonl"
        log.write_text(json.dumps({"step": 1, EVIL: 2}) + "\n" + json.dumps({"step": EVIL}))
        self.assert_safe("plot", log, log)
        log.write_text(json.dumps({"step": 1, "loss": 2}))
        self.assert_safe("plot", log, log)
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({"model": {"model_type": EVIL, "heads": [1], EVIL: 2}}))
        self.assert_safe("prune", "--model", model, "--plan", plan, "--dry-run")
        lines = self.folder / "lines.jsonl"
        lines.write_text(json.dumps({EVIL: EVIL, "text": 3}))
        self.add_tokenizer(model)
        self.assert_safe("finetune", "--model", model, "--output", self.folder / "t", "--train-file", lines)


class LinksTest(ProgramTest):
    def test_convert_copies_no_file_that_a_link_chooses(self):
        secret = self.folder / "secret"
        secret.write_text("a key")
        model = self.model()
        (model / "tokenizer_config.json").symlink_to(secret)
        self.assert_fails("convert", "--model", model, "--output", self.folder / "out",
                          says=("tokenizer_config.json", "link", "secret"), output=self.folder / "out")  # fmt: skip

    def test_convert_follows_the_links_of_a_cache_and_those_between_models(self):
        snapshot = self.folder / "models--a--b" / "snapshots" / "0123"
        blobs = self.folder / "models--a--b" / "blobs"
        snapshot.parent.mkdir(parents=True)
        blobs.mkdir()
        self.model().rename(snapshot)
        base = self.folder / "base"
        base.mkdir()
        self.add_tokenizer(base)
        (snapshot / "tokenizer.json").symlink_to(base / "tokenizer.json")
        (base / "tokenizer_config.json").rename(blobs / "abcdef")
        (snapshot / "tokenizer_config.json").symlink_to("../../blobs/abcdef")
        for file in ("model.safetensors", "config.json"):
            (snapshot / file).rename(blobs / file)
            (snapshot / file).symlink_to(f"../../blobs/{file}")
        self.run_program("convert", "--model", snapshot, "--output", self.folder / "out")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            copied = self.folder / "out" / file
            self.assertFalse(copied.is_symlink())
            self.assertEqual(copied.read_bytes(), (snapshot / file).read_bytes())

    def test_circles_of_links_are_an_error_that_names_the_path(self):
        model, circle = self.model(), self.folder / "circle"
        circle.symlink_to(circle)
        ids = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64))
        forward = ("forward", "--model", model, "--inputs", ids, "--output")
        for arguments in (
            ("inspect", circle),
            ("convert", "--model", model, "--output", circle),
            ("convert", "--model", circle, "--output", self.folder / "out"),
            ("prune", "--model", model, "--intermediate", "0.5", "--output", circle),
            (*forward, circle),
            (*forward, circle / "out"),
            ("plot", circle),
            ("tokenize", "--model", circle, "--text", "a"),
            ("finetune", "--model", model, "--train-ids", ids, "--output", circle),
            ("finetune", "--model", model, "--train-ids", ids, "--output", circle / "out"),
        ):
            with self.subTest(arguments=arguments):
                result = self.start(*arguments)
                self.assertEqual(result.returncode, 1)
                self.assertIn(str(circle), result.stderr.decode())
                self.assertNotIn("filesystem error", result.stderr.decode())
        for name in ("tokenizer.json", "generation_config.json", "config.json", "model.safetensors"):
            folder = self.model(name=f"with-{name}")
            self.add_tokenizer(folder)
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(name)
            with self.subTest(name=name):
                result = self.start("generate", "--model", folder, "--prompt", "a", "--max-new-tokens", "1")
                self.assertEqual(result.returncode, 1, result.stderr.decode())
                self.assertIn(name, result.stderr.decode())
                self.assertNotIn("filesystem error", result.stderr.decode())


class ShortenedFileTest(ProgramTest):
    def test_a_model_file_cut_shorter_in_use_is_an_error_that_names_it(self):
        model = self.talking_model()
        command = [str(PROGRAM), "generate", "--model", str(model), "--interactive", "--max-new-tokens", "4"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1))
        os.truncate(model / "model.safetensors", 4096)
        _, error = process.communicate(b"again\n", timeout=60)
        self.assertEqual(process.returncode, 1, error)
        last = error.decode().splitlines()[-1]
        self.assertIn("error: ", last)
        self.assertIn("model.safetensors: became shorter", last)


if __name__ == "__main__":
    unittest.main()
