"""What holds for every subcommand of the program: exit status, streams, options; and `bench`."""

import json
import unittest

import torch
from program import ProgramTest, read_golden, under

SUBCOMMANDS = "forward generate tokenize detokenize inspect convert prune finetune plot bench".split()


class UsageTest(ProgramTest):
    def test_help_of_each_subcommand_ends_with_an_example(self):
        self.assertIn("generate", self.run_program("--help"))
        for subcommand in SUBCOMMANDS:
            with self.subTest(subcommand=subcommand):
                self.assertIn(f"Example: transformers-cpp {subcommand}", self.run_program(subcommand, "--help"))

    def test_wrong_usage_is_status_2(self):
        model = self.model()
        ids = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64))
        common = ("--model", model, "--inputs", ids, "--output", self.folder / "out")
        generate = ("generate", "--model", model, "--input-ids", ids, "--output", self.folder / "out")
        cases = [
            (),
            ("walk",),
            ("forward", *common, "--no-such-option"),
            ("forward", *common[:4]),
            ("forward", *common, "--config", model / "config.json"),
            ("forward", *common, "--task", "dance"),
            ("forward", *common, "--task", "base", "--grads"),
            ("forward", *common, "--dtype", "float8"),
            ("forward", *common, "--device", "abacus"),
            ("forward", *common, "--device", "meta"),
            ("forward", *common, "--device", "mps"),
            ("forward", *common, "--device", "xla:0"),
            ("forward", *common, "--num-threads", "-1"),
            ("forward", *common, "--seed", "x"),
            ("generate", "--model", model),
            ("generate", "--model", model, "--prompt", "a", "--input-ids", ids),
            ("generate", "--model", model, "--input-ids", ids),
            ("generate", "--model", model, "--prompt", "a", "--output-scores"),
            ("generate", "--model", model, "--prompt", "a", "--system", "b"),
            ("generate", "--config", model / "config.json", "--prompt", "a"),
            (*generate, "--temperature", "warm"),
            (*generate, "--do-sample", "--temperature", "-1"),
            (*generate, "--bad-words-ids", "[1,2]"),
            (*generate, "--bad-words-ids", "[" * 60_000),
            (*generate, "--early-stopping", "perhaps"),
            (*generate, "--cache", "infinite"),
            ("convert", "--model", model, "--output", self.folder / "out", "--max-shard-size", "5 elephants"),
            ("bench", "--model", model, "--train", "4x"),
            ("bench", "--model", model, "--train", "axb"),
        ]
        for arguments in cases:
            with self.subTest(arguments=arguments):
                self.assert_fails(*arguments, status=2, output=self.folder / "out")

    def test_an_unknown_word_is_named_with_the_one_that_may_be_meant(self):
        train = ("finetune", "--model", "m", "--output", "o", "--train-file", "f.txt")
        cases = [
            (("forward", "--modle", "x"), "--modle: there is no such option of forward; did you mean --model?"),
            (("forward", "--modle=x"), "--modle: there is no such option of forward; did you mean --model?"),
            ((*train, "--lr", "1e-4"), "--lr: there is no such option of finetune; did you mean --learning-rate?"),
            ((*train, "--btach-size", "4"), "did you mean --batch-size?"),
            ((*train, "--quite"), "did you mean --quiet?"),
            (("generate", "--model", "m", "--prompt", "--modle", "--max-new", "3"), "did you mean --max-new-tokens?"),
            (("genrate", "--model", "m"), "genrate: there is no such subcommand; did you mean generate?"),
            (("forward", "--elephant", "x"), "--elephant: there is no such option of forward Run"),
        ]
        for arguments, says in cases:
            with self.subTest(arguments=arguments):
                result = self.start(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, b""))
                self.assertIn(says, " ".join(result.stderr.decode().split()))

    def test_a_number_out_of_its_range_is_told_the_rule(self):
        train = ("finetune", "--model", "m", "--output", "o", "--train-file", "f.txt")
        for option, value, rule in (
            ("--batch-size", "0", "above 0"),
            ("--batch-size", "few", "above 0"),
            ("--weight-decay", "-1", "of at least 0"),
            ("--learning-rate", "nan", "of at least 0"),
            ("--learning-rate", "inf", "of at least 0"),
        ):
            with self.subTest(option=option, value=value):
                result = self.start(*train, option, value)
                self.assertEqual((result.returncode, result.stdout), (2, b""))
                self.assertIn(f"{option}: must be a number {rule}, got {value}", result.stderr.decode())

    def test_what_a_model_folder_lacks_is_status_1(self):
        (self.folder / "empty").mkdir()
        self.model(name="broken", hidden_size=23)
        self.model(name="strange", model_type="opt")
        ids = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64))
        out = self.folder / "out"
        cases = [("empty", "config.json"), ("none", "no such folder"), ("broken", "hidden_size"), ("strange", "opt")]
        for name, says in cases:
            model = self.folder / name
            for arguments in (
                ("inspect", model),
                ("convert", "--model", model, "--output", out),
                ("forward", "--model", model, "--inputs", ids, "--output", out),
                ("generate", "--model", model, "--input-ids", ids, "--output", out),
                ("bench", "--model", model),
            ):
                with self.subTest(arguments=arguments):
                    self.assert_fails(*arguments, says=(str(model), says), output=out)

    def test_an_error_is_printed_even_when_quiet(self):
        self.assert_fails("--quiet", "inspect", self.folder / "none", says=("error: ",))

    def test_a_stdout_that_takes_nothing_is_an_error(self):
        self.add_tokenizer(self.folder)
        with open("/dev/full", "wb") as full:
            result = self.start("tokenize", "--model", self.folder, "--text", "Hello", stdout=full)
        self.assertEqual((result.returncode, result.stderr.count(b"error: ")), (1, 1))


class BenchTest(ProgramTest):
    def test_prints_a_json_object_a_phase(self):
        options = ("--prompt-tokens", "4,8", "--new-tokens", 3, "--context", 5, "--repetitions", 2, "--train", "2x6")
        stdout = self.run_program("bench", "--config", self.model() / "config.json", "--seed", 1, *options)
        lines = {(line["phase"], line.get("tokens")): line for line in map(json.loads, stdout.splitlines())}
        timed = {("prefill", 4), ("prefill", 8), ("decode", 3), ("train_step", 12)}
        self.assertEqual(set(lines), timed | {("machine", None), ("load", None)})
        self.assertEqual(lines["decode", 3]["context"], 5)
        for phase in timed:
            rate = lines[phase]["tokens_per_second"]
            self.assertTrue(0 < rate["min"] <= rate["median"] <= rate["max"], rate)
        for name in ("seconds", "peak_rss_bytes", "weight_bytes"):
            self.assertGreater(lines["load", None][name], 0)
        self.assertIn(lines["machine", None]["kernels"], ("baseline", "avx2", "avx512", "avx512vnni", "libtorch"))
        # A tiny model's: what the machine is measured with, a gigabyte, is not in it.
        self.assertLess(lines["decode", 3]["peak_rss_bytes"], 1 << 30)

    def test_quantised_weights_count_as_they_are_held(self):
        tensors = read_golden("models/llama_gqa")[1]
        options = ("--prompt-tokens", 4, "--new-tokens", 2, "--context", 4, "--repetitions", 1, "--quantize", "int8")
        stdout = self.run_program("bench", "--model", self.model(), *options)
        load, decode = (line for line in map(json.loads, stdout.splitlines()) if line["phase"] in ("load", "decode"))
        up_to = lambda size, unit: -(-size // unit) * unit  # the integer matmuls read blocks of 16 rows and 4 columns
        held = sum(
            up_to(len(tensor), 16) * (up_to(tensor.shape[1], 4) + 4) if "_proj." in name else tensor.nbytes
            for name, tensor in under(tensors, "weights.").items()
        )
        self.assertEqual(load["weight_bytes"], held)
        read = held - tensors["weights.model.embed_tokens.weight"].nbytes
        median = decode["tokens_per_second"]["median"]
        self.assertAlmostEqual(decode["bytes_per_second"] / median / read, 1, places=6)


if __name__ == "__main__":
    unittest.main()
