"""The program's `finetune`: Python's curves and weights, resuming, interrupting, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

import peft
import torch
import transformers
from program import PROGRAM, ProgramTest, read_golden, under
from safetensors.torch import load_file, save_file


TORCHRUN = Path(sys.executable).parent / "torchrun"


def log_of(path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


class FinetuneTest(ProgramTest):
    def start_of(self, family: str):
        """The model folder and the samples of the golden runs, and all its cases."""
        metadata, tensors = read_golden(f"training/runs_{family}")
        cases = json.loads(metadata["cases"])
        model = self.write_model(cases["start"]["config"], under(tensors, "start.weights."), family)
        data = {name: tensors[f"start.{name}"] for name in ("input_ids", "labels")}
        return model, self.tensors(f"{family}.safetensors", **data), cases, tensors

    def finetune(self, model, data, *options, output="tuned") -> list:
        log = self.folder / "log.jsonl"
        arguments = ("--batch-size", 2, "--learning-rate", "5e-3", "--attn", "eager", "--log-file", log, "--quiet")
        self.run_program(
            "finetune", "--model", model, "--train-ids", data, "--output", self.folder / output, *arguments, *options
        )
        return log_of(log)

    def test_curves_and_weights_are_those_of_python(self):
        flags = {
            "full": ("--weight-decay", 0.1, "--lr-schedule", "constant"),
            "accumulation": ("--gradient-accumulation-steps", 3, "--lr-schedule", "constant"),
            "clipping": ("--max-grad-norm", 0.3, "--lr-schedule", "constant"),
            "checkpointing": ("--gradient-checkpointing", "--lr-schedule", "constant"),
            "label_smoothing": ("--label-smoothing", 0.1, "--lr-schedule", "constant"),
            "linear": ("--warmup-steps", 3),
            "cosine": ("--warmup-steps", 3, "--lr-schedule", "cosine"),
        }
        for family in ("llama", "gptj"):
            model, data, cases, tensors = self.start_of(family)
            for name, options in flags.items():
                with self.subTest(family=family, run=name):
                    output = f"{family}_{name}"
                    log = self.finetune(model, data, "--no-shuffle", "--max-steps", 20, *options, output=output)
                    self.assertEqual([entry["step"] for entry in log], list(range(1, 21)))
                    for column in ("loss", "grad_norm", "learning_rate"):
                        found = torch.tensor([entry[column] for entry in log], dtype=torch.float64)
                        torch.testing.assert_close(found, tensors[f"{name}.{column}"], rtol=1e-5, atol=1e-12)
                    weights = load_file(self.folder / output / "model.safetensors")
                    for key, expected in under(tensors, f"{name}.final.").items():
                        largest = expected.abs().max().item()
                        torch.testing.assert_close(weights[key], expected, rtol=0, atol=1e-5 * largest)

    def test_python_loads_the_folder_with_equal_logits(self):
        model, data, *_ = self.start_of("llama")
        self.finetune(model, data, "--max-steps", 2)
        output = self.folder / "logits.safetensors"
        inputs = self.tensors(input_ids=torch.tensor([[1, 2, 3]]))
        self.run_program("forward", "--model", self.folder / "tuned", "--inputs", inputs, "--output", output)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(self.folder / "tuned")
        expected = theirs(input_ids=torch.tensor([[1, 2, 3]])).logits.detach()
        torch.testing.assert_close(load_file(output)["logits"], expected)

    def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(self):
        model, data, *_ = self.start_of("gptj")
        options = ("--max-steps", 9, "--gradient-accumulation-steps", 2, "--save-every", 4)
        whole = self.finetune(model, data, *options, output="whole")
        self.finetune(model, data, *options, output="resumed")
        (self.folder / "resumed" / "model.safetensors").unlink()
        shutil.rmtree(self.folder / "resumed" / "checkpoint-8")
        resumed = self.finetune(model, data, *options, "--resume", output="resumed")
        drop = lambda log: [{k: v for k, v in entry.items() if k != "tokens_per_second"} for entry in log]
        self.assertEqual(drop(resumed), drop(whole))
        files = [(self.folder / name / "model.safetensors").read_bytes() for name in ("whole", "resumed")]
        self.assertEqual(files[0], files[1])

    def test_ctrl_c_leaves_a_checkpoint_to_resume_from(self):
        model, data, *_ = self.start_of("llama")
        log, output = self.folder / "log.jsonl", self.folder / "tuned"
        command = ("finetune", "--model", model, "--train-ids", data, "--output", output, "--max-steps", 1_000_000)
        process = subprocess.Popen(
            [str(PROGRAM), *map(str, (*command, "--log-file", log))], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.addCleanup(process.kill)
        while not (log.exists() and log.read_text().count("\n") >= 3):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (130, b""), stderr)
        steps = len(log_of(log))
        self.assertIn(f"checkpoint-{steps}", stderr.decode())
        self.assertFalse((output / "model.safetensors").exists())
        self.assert_fails(*command[:-1], 999_999, "--resume", says=("max_steps", "1000000", "999999"))

    def under_torchrun(self, program, *arguments, restarts=0) -> subprocess.CompletedProcess:
        rendezvous = ("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")  # a free port, whatever else runs
        torchrun = (TORCHRUN, "--no-python", *rendezvous, "--nproc-per-node", 2, "--max-restarts", restarts)
        return subprocess.run(
            [*map(str, (*torchrun, *program, "finetune", *arguments))],
            capture_output=True, timeout=120, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )

    @unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
    def test_two_ranks_under_torchrun_take_the_steps_of_one_process(self):
        model, data, *_ = self.start_of("llama")
        log, output = self.folder / "ranks.jsonl", self.folder / "ranks"
        options = ("--max-steps", 6, "--gradient-accumulation-steps", 2)
        rank_options = ("--batch-size", 1, "--learning-rate", "5e-3", "--attn", "eager")
        arguments = ("--model", model, "--train-ids", data, "--output", output, "--log-file", log)
        result = self.under_torchrun([PROGRAM], *arguments, *rank_options, *options)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        alone = self.finetune(model, data, *options)
        for column in ("loss", "grad_norm"):
            found, expected = (torch.tensor([entry[column] for entry in entries]) for entries in (log_of(log), alone))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        weights = [load_file(self.folder / name / "model.safetensors") for name in ("ranks", "tuned")]
        for key, expected in weights[1].items():
            torch.testing.assert_close(weights[0][key], expected, rtol=0, atol=1e-5 * expected.abs().max().item())

    @unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
    def test_ranks_that_torchrun_restarts_go_on_as_if_none_had_died(self):
        model, data, *_ = self.start_of("llama")
        mortal = self.folder / "mortal.sh"  # rank 1 dies once, when there is a checkpoint
        mortal.write_text(
            "checkpoint=$1; shift\n"
            '[ "$RANK" = 1 ] && [ "$TORCHELASTIC_RESTART_COUNT" = 0 ] || exec "$@"\n'
            '"$@" &\n'
            'until [ -e "$checkpoint" ]; do sleep 0.01; done\n'
            "kill -9 $!\n"
            "exit 9\n"
        )
        options = ("--max-steps", 200, "--save-every", 5, "--batch-size", 1, "--learning-rate", "5e-3")
        results = {}
        for name, program in {
            "whole": [PROGRAM],
            "restarted": ["/bin/sh", mortal, self.folder / "restarted" / "checkpoint-5", PROGRAM],
        }.items():
            output, log = self.folder / name, self.folder / f"{name}.jsonl"
            arguments = ("--model", model, "--train-ids", data, "--output", output, "--log-file", log, *options)
            result = self.under_torchrun(program, *arguments, restarts=1)
            self.assertEqual(result.returncode, 0, result.stderr.decode())
            self.assertEqual(b"continuing from" in result.stderr, name == "restarted", result.stderr.decode())
            entries = [{k: v for k, v in entry.items() if k != "tokens_per_second"} for entry in log_of(log)]
            results[name] = (entries, (output / "model.safetensors").read_bytes())
        self.assertEqual(results["restarted"], results["whole"])

    @unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
    def test_torchrun_reports_why_a_rank_failed(self):
        _, data, *_ = self.start_of("llama")
        arguments = ("--model", self.folder / "missing", "--train-ids", data, "--output", self.folder / "tuned")
        result = self.under_torchrun([PROGRAM], *arguments)
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr.decode(), r"error: rank [01]: .*missing")
        self.assertRegex(result.stderr.decode(), r"c10::Error: .*missing")  # of the error file

    def test_adapters_load_in_peft_and_merge(self):
        model, data, *_ = self.start_of("llama")
        lora = ("--lora-r", 4, "--lora-alpha", 16, "--lora-targets", "q_proj,down_proj", "--lora-dropout", 0.1)
        options = ("--max-steps", 9, "--save-every", 4, *lora)
        self.finetune(model, data, *options, output="adapter")
        self.finetune(model, data, *options, "--merge", output="merged")
        inputs = torch.tensor([[1, 2, 3, 4]])
        base = transformers.AutoModelForCausalLM.from_pretrained(model)
        adapted = peft.PeftModel.from_pretrained(base, self.folder / "adapter").eval()
        merged = transformers.AutoModelForCausalLM.from_pretrained(self.folder / "merged")
        torch.testing.assert_close(merged(input_ids=inputs).logits, adapted(input_ids=inputs).logits)
        with adapted.disable_adapter():
            self.assertFalse(torch.allclose(merged(input_ids=inputs).logits, adapted(input_ids=inputs).logits))
        # The same run, stopped after step 4 and taken up again.
        shutil.rmtree(self.folder / "adapter" / "checkpoint-8")
        whole = load_file(self.folder / "adapter" / "adapter_model.safetensors")
        self.finetune(model, data, *options, "--resume", output="adapter")
        for key, tensor in load_file(self.folder / "adapter" / "adapter_model.safetensors").items():
            self.assertTrue(torch.equal(tensor, whole[key]), key)
        self.assert_fails("finetune", "--model", model, "--train-ids", data, "--output", "x", "--merge", status=2)

    def test_adapters_over_quantised_weights_learn_as_over_the_rounded_ones(self):
        model, data, *_ = self.start_of("llama")
        options = ("--max-steps", 5, "--lora-r", 4, "--lora-targets", "q_proj,down_proj")
        self.finetune(model, data, *options, "--quantize", "int8", output="quantised")
        self.assert_fails("finetune", "--model", model, "--train-ids", data, "--output", "x", "--quantize", "int8", status=2)
        weights = load_file(model / "model.safetensors")
        for name, weight in weights.items():
            if "_proj." in name:
                scales = weight.abs().amax(1, keepdim=True) / 127
                weights[name] = (weight * (1 / scales)).round() * scales
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
        self.finetune(model, data, *options, output="rounded")
        found, expected = (load_file(self.folder / name / "adapter_model.safetensors") for name in ("quantised", "rounded"))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=key)

    def test_json_lines_teach_completions_and_classes(self):
        model = self.talking_model()
        lines = self.folder / "lines.jsonl"
        lines.write_text(
            '{"prompt": "The library", "completion": " opens a folder."}\n{"text": "It writes a folder back."}\n'
        )
        log = self.folder / "log.jsonl"
        arguments = ("--seq-length", 32, "--batch-size", 2, "--learning-rate", "1e-2", "--quiet", "--log-file", log)
        common = ("finetune", "--model", model, "--train-file", lines, *arguments)
        self.run_program(*common, "--output", self.folder / "texts", "--max-steps", 12, "--eval-file", lines)
        entries = log_of(log)
        self.assertLess(entries[11]["loss"], entries[0]["loss"])
        self.assertLess(entries[12]["eval_loss"], entries[0]["loss"])
        self.assertTrue((self.folder / "texts" / "tokenizer.json").exists())
        lines.write_text('{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n')
        self.run_program(
            *common, "--output", self.folder / "classes", "--max-steps", 12, "--task", "sequence-classification"
        )
        entries = log_of(log)
        self.assertLess(entries[11]["loss"], entries[0]["loss"])
        config = json.loads((self.folder / "classes" / "config.json").read_text())
        self.assertEqual(config["architectures"], ["LlamaForSequenceClassification"])

    def test_a_model_from_nothing_learns_a_text_with_a_tokenizer_of_its_own(self):
        talking = self.talking_model()
        text = self.folder / "text.txt"
        text.write_text("In the beginning was the word. " * 60)
        config = self.folder / "fresh.json"
        config.write_text((talking / "config.json").read_text())
        log, output = self.folder / "log.jsonl", self.folder / "fresh"
        data = ("--train-file", text, "--eval-file", text, "--seq-length", 16, "--log-file", log)
        steps = ("--batch-size", 4, "--max-steps", 40, "--learning-rate", "5e-3", "--eval-steps", 20)
        command = ("finetune", "--config", config, "--output", output, *data, *steps)
        self.run_program(*command, "--tokenizer", talking, "--quiet")
        perplexities = [entry["perplexity"] for entry in log_of(log) if "perplexity" in entry]
        self.assertLess(perplexities[-1], perplexities[0])
        self.assertEqual((output / "tokenizer.json").read_bytes(), (talking / "tokenizer.json").read_bytes())
        prompt = ("generate", "--model", output, "--prompt", "In the beginning", "--max-new-tokens", 12)
        self.assertTrue(self.run_program(*prompt, "--quiet").startswith(" was the word."))
        self.assert_fails(*command, status=2, says=("--tokenizer",))

    def test_a_run_goes_on_with_its_own_settings_only(self):
        model, data, *_ = self.start_of("llama")
        run = ("--max-steps", 4, "--save-every", 2, "--lora-r", 2)
        self.finetune(model, data, *run)
        base = ("finetune", "--model", model, "--train-ids", data, "--output", self.folder / "tuned", "--attn", "eager")
        base += ("--batch-size", 2, *run, "--resume")
        self.assert_fails(*base, "--learning-rate", "5.0000001e-3", says=("learning_rate", "0.005"))
        self.assert_fails(*base, "--learning-rate", "5e-3", "--lora-alpha", 3, says=("lora_alpha", "default", "3"))

    def test_bad_input_is_named(self):
        model, data, *_ = self.start_of("llama")
        output = ("--output", self.folder / "tuned", "--max-steps", 1)
        base = ("finetune", "--model", model, *output)
        talking = self.talking_model()
        lines = self.folder / "lines.jsonl"
        text = ("finetune", "--model", talking, *output, "--train-file", lines)
        lines.write_text("")
        self.assert_fails(*text, says=("lines.jsonl", "no sample"))
        lines.write_text('{"text": "a", "label": 7}')
        self.assert_fails(*text, "--task", "sequence-classification", says=("lines.jsonl line 1", "label", "7"))
        lines.write_text('{"txt": 1}')
        self.assert_fails(*text, says=("lines.jsonl line 1", "text"))
        bad_ids = self.tensors("bad.safetensors", input_ids=torch.tensor([[1, 99]]))
        self.assert_fails(*base, "--train-ids", bad_ids, says=("99", "24"))
        self.assert_fails(*base, "--train-ids", data, "--resume", says=("checkpoint",))
        self.assert_fails(*base, status=2)
        self.assert_fails(*base, "--train-ids", data, "--lr-schedule", "steep", status=2)
        self.assertFalse((self.folder / "tuned" / "model.safetensors").exists())

    def test_curves_are_drawn(self):
        log, drawing = self.folder / "log.jsonl", self.folder / "log.svg"
        log.write_text("".join(f'{{"step": {step}, "loss": {4.0 - step}}}\n' for step in range(1, 4)))
        self.assertEqual(self.run_program("plot", log, "-o", drawing), "")
        points = xml.etree.ElementTree.parse(drawing).getroot()[-1].attrib["points"].split()
        heights = [float(point.split(",")[1]) for point in points]
        self.assertEqual(len(heights), 3)
        self.assertEqual(heights, sorted(heights))
        self.run_program("plot", log, log, "-o", drawing)
        lines = [element for element in xml.etree.ElementTree.parse(drawing).getroot() if element.tag.endswith("polyline")]
        self.assertEqual([line.attrib["points"].split() for line in lines], [points, points])
        self.assertEqual(len({line.attrib["stroke"] for line in lines}), 2)
        terminal = self.run_program("plot", log)
        self.assertIn("loss: 1 to 3, steps 1 to 3", terminal)
        self.assertEqual(terminal.count("*"), 3)
        self.assert_fails("plot", log, "--columns", "speed", says=("log.jsonl", "speed"))
        log.write_text("[]")
        self.assert_fails("plot", log, says=("log.jsonl line 1", "step"))


if __name__ == "__main__":
    unittest.main()
