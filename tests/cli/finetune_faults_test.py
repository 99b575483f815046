"""The program's `finetune` where things go wrong: found before the first step where they can be, and nothing that was
trained thrown away where they cannot."""

import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import torch
from program import PROGRAM, ProgramTest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import get_scheduler

TORCHRUN = Path(sys.executable).parent / "torchrun"


def log_of(path: Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


class FinetuneFaultsTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.model_folder = self.talking_model()
        self.output = self.folder / "tuned"
        self.data = self.file("good.jsonl", *({"text": f"The library opens folder {i}."} for i in range(4)))

    def file(self, name: str, *entries, end: str = "") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + end)
        return path

    def command(self, *options, data=None, output=None, **changes) -> tuple:
        common = {"batch_size": 2, "learning_rate": "5e-3", "lr_schedule": "constant"} | changes
        source = ("--model", self.model_folder, "--train-file", data or self.data, "--output", output or self.output)
        named = [part for name, value in common.items() for part in ("--" + name.replace("_", "-"), value)]
        return ("finetune", *source, *named, "--no-shuffle", *options)

    def fails(self, *options, data=None, says=(), **rest) -> None:
        self.assert_fails(*self.command(*options, data=data), says=says, **rest)

    def nothing_was_trained(self) -> None:
        self.assertEqual([path.name for path in self.output.glob("*") if not path.name.startswith(".")], [])

    def start_long(self, *options, output=None, ready=None) -> subprocess.Popen:
        """A run without end that has taken some steps."""
        log = self.folder / "long.jsonl"
        log.unlink(missing_ok=True)
        command = self.command("--max-steps", 1_000_000, "--log-file", log, *options, output=output)
        process = subprocess.Popen([str(PROGRAM), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        ready = ready or (lambda: log.exists() and log.read_text().count("\n") >= 3)
        while not ready():
            self.assertIsNone(process.poll(), process.stderr.read() if process.poll() is not None else "")
            time.sleep(0.01)
        return process

    # What can be known before the first step is an error then.

    def test_every_line_is_read_before_the_first_step(self):
        bad = self.file("bad.jsonl", *({"text": "fine"} for _ in range(30)), end='{"text": "broken\n')
        self.fails("--max-steps", 3, data=bad, says=("bad.jsonl line 31",))
        self.nothing_was_trained()
        self.fails("--max-steps", 3, "--eval-file", bad, says=("bad.jsonl line 31",))
        self.nothing_was_trained()

    def test_an_evaluation_without_a_label_is_refused_before_the_first_step(self):
        prompt = "in the beginning was the word and the word was with the others " * 4
        cut = self.file("cut.jsonl", {"prompt": prompt, "completion": " x"})
        self.fails("--max-steps", 3, "--seq-length", 16, "--eval-file", cut, says=("cut.jsonl", "no label counts"))
        self.nothing_was_trained()

    def test_a_metric_that_the_evaluation_does_not_give_is_refused_before_the_first_step(self):
        evaluation = ("--eval-file", self.data, "--eval-steps", 1, "--save-every", 1, "--load-best-model-at-end")
        says = ("metric_for_best_model", "accuracy", "loss, perplexity")
        self.fails("--max-steps", 2, *evaluation, "--metric-for-best-model", "accuracy", says=says)
        self.nothing_was_trained()

    def test_an_adapter_that_cannot_be_merged_is_refused_before_the_first_step(self):
        config = json.loads((self.model_folder / "config.json").read_text()) | {"tie_word_embeddings": True}
        (self.model_folder / "config.json").write_text(json.dumps(config))
        weights = load_file(self.model_folder / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, self.model_folder / "model.safetensors", {"format": "pt"})
        lora = ("--lora-r", 2, "--lora-targets", "lm_head", "--merge")
        self.fails("--max-steps", 2, *lora, says=("lm_head", "tied"))
        self.nothing_was_trained()

    def test_ids_beyond_the_vocabulary_are_found_before_the_first_step(self):
        ids = torch.ones(8, 4, dtype=torch.int64)
        ids[7, 2] = 700
        data = self.tensors("ids.safetensors", input_ids=ids)
        command = ("finetune", "--model", self.model_folder, "--train-ids", data, "--output", self.output)
        self.assert_fails(*command, "--max-steps", 2, says=("ids.safetensors", "sample 7", "700"))
        self.nothing_was_trained()

    def test_files_of_another_kind_are_refused(self):
        for name in ("d.csv", "d.TSV", "d.parquet", "d.gz", "d.safetensors"):
            self.fails("--max-steps", 1, data=self.file(name, end="text,label\nthe cat,0\n"), says=(name, ".jsonl", ".json"))
        binary = self.folder / "text.txt"
        binary.write_bytes(bytes(range(256)) * 20)
        self.fails("--max-steps", 1, "--seq-length", 8, data=binary, says=("text.txt", "no text"))
        weights = self.folder / "weights"
        shutil.copy(self.model_folder / "model.safetensors", weights)
        self.fails("--max-steps", 1, "--seq-length", 8, data=weights, says=("weights", "no text"))

    def test_an_array_and_lines_under_any_name_of_theirs_are_one_data_set(self):
        texts = [{"text": "The library opens."}, {"text": "It writes a folder [back], \"so\"."}]
        array = self.folder / "array.json"
        array.write_text(json.dumps(texts, indent=1))
        losses = []
        for data in (self.file("a.jsonl", *texts), self.file("a.JSONL", *texts), self.file("a.json", *texts), array):
            log = self.folder / "log.jsonl"
            self.run_program(*self.command("--max-steps", 2, "--log-file", log, data=data))
            losses.append([entry["loss"] for entry in log_of(log)])
        self.assertEqual(losses, [losses[0]] * 4)
        array.write_text('[{"text": "a"}, {"txt": "b"}]')
        self.fails("--max-steps", 1, data=array, says=("array.json element 2", "text"))

    def test_float16_weights_need_a_way_that_works(self):
        self.run_program("convert", "--model", self.model_folder, "--output", self.folder / "half", "--dtype", "float16")
        self.model_folder = self.folder / "half"
        self.fails("--max-steps", 2, says=("float16", "--dtype float32", "--low-precision master"))
        self.nothing_was_trained()
        self.run_program(*self.command("--max-steps", 2, "--low-precision", "master"))
        self.run_program(*self.command("--max-steps", 2, "--dtype", "float32", output=self.folder / "full"))
        self.run_program(*self.command("--max-steps", 2, "--lora-r", 2, output=self.folder / "adapter"))

    # What goes wrong later leaves a checkpoint.

    def test_a_sample_without_a_label_is_left_out_with_a_warning(self):
        prompt = "in the beginning was the word and the word was with the others " * 4
        short = ({"prompt": "the cat", "completion": " sat"}, {"prompt": "the mat", "completion": " was"})
        data = self.file("pc.jsonl", short[0], {"prompt": prompt, "completion": " end"}, short[1])
        log = self.folder / "log.jsonl"
        one = ("--seq-length", 16, "--max-steps", 6, "--log-file", log)
        found = self.start(*self.command(*one, data=data, batch_size=1))
        self.assertEqual(found.returncode, 0, found.stderr)
        self.assertRegex(found.stderr.decode(), r"warning: .*pc\.jsonl: 1 of 3 samples have no label")
        losses = [entry["loss"] for entry in log_of(log)]
        two = self.file("two.jsonl", *short)
        self.run_program(*self.command(*one, data=two, output=self.folder / "two", batch_size=1))
        self.assertEqual([entry["loss"] for entry in log_of(log)], losses)

    def test_a_result_that_cannot_be_written_leaves_the_training(self):
        whole = self.folder / "whole"
        self.run_program(*self.command("--max-steps", 3, output=whole))
        self.output.mkdir()
        (self.output / "config.json").mkdir()  # in the way of the result alone
        (self.output / "config.json" / "file").touch()
        self.fails("--max-steps", 3, says=("config.json", "checkpoint-3"))
        shutil.rmtree(self.output / "config.json")
        self.run_program(*self.command("--max-steps", 3, "--resume"))
        found, expected = (load_file(folder / "model.safetensors") for folder in (self.output, whole))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(found[name], tensor), name)

    def test_a_merge_that_cannot_be_written_leaves_the_adapters(self):
        lora = ("--max-steps", 3, "--lora-r", 2, "--merge")
        self.run_program(*self.command(*lora, output=self.folder / "whole"))
        self.assertEqual(list((self.folder / "whole").glob("checkpoint-*")), [])
        self.output.mkdir()
        (self.output / "config.json").mkdir()
        (self.output / "config.json" / "file").touch()
        self.fails(*lora, says=("checkpoint-3",))
        shutil.rmtree(self.output / "config.json")
        self.run_program(*self.command(*lora, "--resume"))
        found, expected = (load_file(folder / "model.safetensors") for folder in (self.output, self.folder / "whole"))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, msg=name)

    def test_a_log_that_cannot_be_written_ends_and_the_training_goes_on(self):
        found = self.start(*self.command("--max-steps", 3, "--log-file", "/dev/full"))
        self.assertEqual(found.returncode, 0, found.stderr)
        self.assertRegex(found.stderr.decode(), "warning: /dev/full: the log cannot be written")
        self.assertTrue((self.output / "model.safetensors").exists())

    def test_curves_that_cannot_be_written_end_and_the_training_goes_on(self):
        board = self.folder / "board"
        board.mkdir()
        process = self.start_long("--tensorboard", board)
        (file,) = board.iterdir()
        # From now on nothing fits: the limit is the file's own size.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size, resource.RLIM_INFINITY))
        time.sleep(0.5)
        self.assertIsNone(process.poll())
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, stderr)
        self.assertIn("the TensorBoard file cannot be written", stderr.decode())
        self.assertTrue(list(self.output.glob("checkpoint-*")))

    def test_a_log_whose_last_line_was_cut_goes_on(self):
        log = self.folder / "log.jsonl"
        options = ("--max-steps", 4, "--save-every", 2, "--log-file", log)
        self.run_program(*self.command(*options))
        shutil.rmtree(self.output / "checkpoint-4")
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(lines[:3]) + lines[3][:20])
        self.run_program(*self.command(*options, "--resume"))
        self.assertEqual([entry["step"] for entry in log_of(log)], [1, 2, 3, 4])
        log.write_text("no log\n" + "".join(lines))
        shutil.rmtree(self.output / "checkpoint-4")
        self.fails(*options, "--resume", says=("log.jsonl",))
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.fails("--max-steps", 1, "--log-file", pipe, says=("pipe", "regular file"))

    # Being stopped.

    def test_ctrl_c_and_sigterm_leave_a_checkpoint_and_say_so(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                output = self.folder / number.name
                process = self.start_long(output=output)
                process.send_signal(number)
                stdout, stderr = process.communicate(timeout=60)
                self.assertEqual((process.returncode, stdout), (128 + number, b""), stderr)
                steps = len(log_of(self.folder / "long.jsonl"))
                self.assertIn(f"checkpoint-{steps}", stderr.decode())
                self.assertTrue((output / f"checkpoint-{steps}" / "training_state.safetensors").exists())
                self.assertFalse((output / "model.safetensors").exists())

    def test_on_a_terminal_the_message_has_a_line_of_its_own(self):
        reader, writer = pty.openpty()
        log = self.folder / "long.jsonl"
        command = [str(PROGRAM), *map(str, self.command("--max-steps", 1_000_000, "--log-file", log))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writer)
        self.addCleanup(process.kill)
        os.close(writer)
        while not (log.exists() and log.read_text().count("\n") >= 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        text = b""
        try:
            while piece := os.read(reader, 65536):
                text += piece
        except OSError:
            pass  # how a terminal whose other side is gone ends
        self.assertEqual(process.wait(60), 130)
        last = text.decode().rstrip().splitlines()[-1]
        self.assertTrue(last.startswith("stopped; "), last)

    # Folders and checkpoints.

    # What an earlier result of another kind left would be taken for part of the new one.

    def test_a_whole_model_takes_the_place_of_an_adapter(self):
        lora = ("--lora-r", 2, "--max-steps", 1)
        for whole in (("--max-steps", 1), (*lora, "--merge")):
            with self.subTest(whole):
                self.run_program(*self.command(*lora))
                self.assertTrue((self.output / "adapter_model.safetensors").exists())
                self.run_program(*self.command(*whole))
                self.assertEqual([path.name for path in self.output.glob("adapter_*")], [])
                self.assertTrue((self.output / "config.json").exists())
                shutil.rmtree(self.output)

    def test_an_adapter_goes_beside_no_model_but_its_own(self):
        lora = ("--lora-r", 2, "--max-steps", 1)
        self.run_program(*self.command("--max-steps", 1))
        weights = (self.output / "model.safetensors").read_bytes()
        self.fails(*lora, says=(str(self.output), "full model"))
        self.assertEqual((self.output / "model.safetensors").read_bytes(), weights)
        self.run_program(*self.command(*lora, output=self.model_folder))
        self.assertTrue((self.model_folder / "adapter_model.safetensors").exists())
        self.assertTrue((self.model_folder / "model.safetensors").exists())

    def test_two_trainings_into_one_folder_are_refused(self):
        process = self.start_long()
        self.fails("--max-steps", 1, says=("tuned", "another training"))
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.run_program(*self.command("--max-steps", 1))

    def test_a_run_is_resumed_from_its_own_checkpoints(self):
        self.run_program(*self.command("--max-steps", 9, "--save-every", 9))
        process = self.start_long()  # into the same folder, and killed before it has saved anything
        process.kill()
        process.wait()
        options = ("--max-steps", 1_000_000, "--resume")
        self.fails(*options, says=("tuned", "no checkpoint of the run that was started last"))
        process = self.start_long()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        steps = len(log_of(self.folder / "long.jsonl"))
        shutil.move(self.output / f"checkpoint-{steps}", self.output / "checkpoint-3")
        process = self.start_long(*options[2:])  # not from checkpoint-9
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        self.assertRegex(stderr.decode(), "continuing from .*checkpoint-3\n")

    def test_a_finished_run_goes_on_to_more_steps(self):
        log = self.folder / "log.jsonl"
        self.run_program(*self.command("--max-steps", 4, "--save-every", 4, "--log-file", log))
        self.run_program(*self.command("--max-steps", 6, "--save-every", 4, "--log-file", log, "--resume"))
        self.assertEqual([entry["step"] for entry in log_of(log)], [1, 2, 3, 4, 5, 6])
        straight = self.folder / "straight"
        self.run_program(*self.command("--max-steps", 6, output=straight))
        found, expected = (load_file(folder / "model.safetensors") for folder in (self.output, straight))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(found[name], tensor), name)
        self.fails("--max-steps", 3, "--resume", says=("max_steps", "3"))

    def test_numbers_of_a_checkpoint_that_cannot_be_are_named(self):
        options = ("--max-steps", 4, "--save-every", 2)
        self.run_program(*self.command(*options))
        shutil.rmtree(self.output / "checkpoint-4")
        path = self.output / "checkpoint-2" / "training_state.safetensors"
        shutil.copy(path, self.folder / "state")
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        for name, value in (("step", float("nan")), ("step", -1), ("step", 1e300), ("position", 1e17), ("position", -5)):
            with self.subTest(name=name, value=value):
                state = load_file(self.folder / "state")
                state[f"progress.{name}"] = torch.tensor([value], dtype=torch.float64)
                save_file(state, path, metadata)
                self.fails(*options, "--resume", says=("training_state.safetensors", name))

    def test_a_rank_of_an_adapter_config_allocates_nothing(self):
        options = ("--max-steps", 4, "--save-every", 2, "--lora-r", 2)
        self.run_program(*self.command(*options))
        for folder in self.output.glob("checkpoint-*"):
            config = json.loads((folder / "adapter_config.json").read_text()) | {"r": 2_000_000_000}
            (folder / "adapter_config.json").write_text(json.dumps(config))
        self.fails(*options, "--resume", says=("adapter_model.safetensors", "2000000000"))

    # Options.

    def test_schedules_take_the_options_of_transformers(self):
        cases = {
            "cosine_with_min_lr": {"min_lr_rate": 0.1},
            "cosine_warmup_with_min_lr": {"min_lr": 1e-4, "warmup_lr_rate": 0.2},
            "warmup_stable_decay": {"num_decay_steps": 3, "decay_type": "linear", "min_lr_ratio": 0.1},
            "polynomial": {"power": 2.0, "lr_end": 1e-5},
            "cosine_with_restarts": {"num_cycles": 2},
            "inverse_sqrt": {"timescale": 5},
        }
        for name, kwargs in cases.items():
            with self.subTest(schedule=name):
                log = self.folder / "log.jsonl"
                run = ("--max-steps", 8, "--warmup-steps", 2, "--log-file", log, "--lr-scheduler-kwargs", json.dumps(kwargs))
                self.run_program(*self.command(*run, lr_schedule=name))
                optimizer = torch.optim.SGD([torch.zeros(1)], lr=5e-3)
                schedule = get_scheduler(name, optimizer, 2, 8, scheduler_specific_kwargs=kwargs)
                expected = []
                for _ in range(8):
                    expected.append(optimizer.param_groups[0]["lr"])
                    optimizer.step()
                    schedule.step()
                found = [entry["learning_rate"] for entry in log_of(log)]
                torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
        self.fails("--max-steps", 1, "--lr-scheduler-kwargs", '{"min_lr": 1}', status=2, says=("min_lr", "constant"))

    def test_the_perplexity_chooses_the_best_checkpoint(self):
        options = ("--max-steps", 3, "--eval-file", self.data, "--eval-steps", 1, "--save-every", 1)
        best = ("--load-best-model-at-end", "--metric-for-best-model", "perplexity")
        log = self.folder / "log.jsonl"
        self.run_program(*self.command(*options, *best, "--log-file", log))
        scores = {entry["step"]: entry["perplexity"] for entry in log_of(log) if "eval_perplexity" in entry or "perplexity" in entry}
        lowest = min(scores, key=scores.get)
        found = load_file(self.output / "model.safetensors")
        for name, tensor in load_file(self.output / f"checkpoint-{lowest}" / "model.safetensors").items():
            self.assertTrue(torch.equal(found[name], tensor), name)

    # Several processes.

    def ranks(self, *programs) -> list:
        """Each program as a rank of one job, without a launcher; status and stderr of each."""
        port = 29600 + os.getpid() % 300
        processes = []
        for rank, program in enumerate(programs):
            environment = {"RANK": str(rank), "WORLD_SIZE": str(len(programs)), "MASTER_ADDR": "localhost"}
            environment |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
            command = [str(PROGRAM), *map(str, program)] if program else ["/bin/true"]
            processes.append(subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return [(process.communicate(timeout=100)[1].decode(), process.returncode) for process in processes]

    def test_ranks_with_other_settings_or_data_are_told_so(self):
        other = self.file("other.jsonl", *({"text": f"Another library {i}."} for i in range(4)))
        for changes, data, says in (({"learning_rate": "6e-3"}, None, "learning"), ({}, other, "data")):
            with self.subTest(says=says):
                first = self.command("--max-steps", 2)
                second = self.command("--max-steps", 2, data=data, **changes)
                for stderr, status in self.ranks(first, second):
                    self.assertEqual(status, 1, stderr)
                    self.assertRegex(stderr, rf"ranks disagree on {says}.*: rank 0 has .*, rank 1 has ")

    def test_a_rank_that_never_comes_ends_the_others_in_time(self):
        begin = time.monotonic()
        (stderr, status), _ = self.ranks(self.command("--max-steps", 2, "--join-timeout", 2), None)
        self.assertEqual(status, 1, stderr)
        self.assertIn("rank 1 has not joined within 2000 ms", stderr)
        self.assertLess(time.monotonic() - begin, 60)

    @unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
    def test_adapters_over_quantised_weights_are_trained_by_two_ranks(self):
        options = ("--max-steps", 3, "--lora-r", 2, "--quantize", "int8")
        self.run_program(*self.command(*options, output=self.folder / "alone"))
        command = self.command(*options, batch_size=1)
        torchrun = (TORCHRUN, "--no-python", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--nproc-per-node", 2)
        result = subprocess.run(
            [*map(str, (*torchrun, PROGRAM, *command))], capture_output=True, timeout=120,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        found, expected = (load_file(folder / "adapter_model.safetensors") for folder in (self.output, self.folder / "alone"))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


if __name__ == "__main__":
    unittest.main()
