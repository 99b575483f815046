"""The program's `generate`: ids and scores of transformers, options, streams and chats."""

import json
import re
import unittest

import torch
from program import GOLDEN, ProgramTest, read_golden, under
from safetensors.torch import load_file, save_file


SAMPLING_SEED = 11  # scripts/goldens/generation.py


def flags(options: dict) -> list:
    """HF's keyword arguments as command line options; lists and booleans in JSON's spelling."""
    arguments = []
    for name, value in options.items():
        if name != "do_sample":
            arguments += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return arguments + (["--do-sample", "--seed", SAMPLING_SEED] if options["do_sample"] else [])


class GenerateTest(ProgramTest):
    def generate(self, model, inputs, *options) -> dict:
        output = self.folder / "out.safetensors"
        stdout = self.run_program("generate", "--model", model, "--input-ids", inputs, "--output", output, *options)
        self.assertEqual(stdout, "")
        return load_file(output)

    def test_ids_and_processed_scores_are_those_of_transformers(self):
        for path in sorted((GOLDEN / "generation").glob("*_*.safetensors")):
            with self.subTest(golden=path.stem):
                metadata, tensors = read_golden(f"generation/{path.stem}")
                expected = under(tensors, "outputs.")
                expected = {n: t for n, t in expected.items() if n == "sequences" or n.startswith("scores.")}
                if "beams" in path.stem:
                    expected = {"sequences": expected["sequences"]}
                model = self.model(f"generation/{path.stem}", name=path.stem)
                options = flags(json.loads(metadata["case"])["options"])
                if assistant := under(tensors, "assistant."):
                    config = json.loads(metadata["config"])
                    options += ["--assistant-model", self.write_model(config, assistant, path.stem + "_assistant")]
                inputs = self.tensors(**under(tensors, "inputs."))
                found = self.generate(model, inputs, "--attn", "eager", "--output-scores", *options)
                self.assert_close(found, expected)

    def test_the_same_seed_draws_the_same_tokens(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        sample = ("--do-sample", "--max-new-tokens", 12, "--eos-token-id", 39, "--temperature", 2.0)
        rows = [self.generate(model, inputs, *sample, "--seed", seed)["sequences"].tolist() for seed in (1, 1, 2)]
        self.assertEqual(rows[0], rows[1])
        self.assertNotEqual(rows[0], rows[2])

    def test_quantised_layers_multiply_with_what_rounding_leaves(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        options = ("--max-new-tokens", 4, "--eos-token-id", "[]", "--output-scores")
        quantised = self.generate(model, inputs, *options, "--quantize", "int8", "--float-activations")
        weights = load_file(model / "model.safetensors")
        for name, weight in weights.items():
            if "_proj." in name:
                scales = weight.abs().amax(1, keepdim=True) / 127
                weights[name] = (weight * (1 / scales)).round() * scales
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
        self.assert_close(quantised, self.generate(model, inputs, *options))
        output = self.folder / "none.safetensors"
        says = ("q_proj", "group_size must divide in_features 24, got 32")
        self.assert_fails("generate", "--model", model, "--input-ids", inputs, "--output", output, "--quantize", "int4", says=says, output=output)

    def test_the_command_line_goes_before_generation_config_json(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        (model / "generation_config.json").write_text('{"max_new_tokens": 4, "eos_token_id": [39]}')
        self.assertEqual(self.generate(model, inputs)["sequences"].shape, (1, 7))
        self.assertEqual(self.generate(model, inputs, "--max-new-tokens", 2)["sequences"].shape, (1, 5))

    def test_an_empty_list_of_end_tokens_is_none(self):
        inputs = self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        model = self.model(eos_token_id=list(range(40)))
        self.assertEqual(self.generate(model, inputs, "--max-new-tokens", 6)["sequences"].shape, (1, 4))
        free = self.generate(model, inputs, "--max-new-tokens", 6, "--eos-token-id", "[]")["sequences"]
        self.assertEqual(free.shape, (1, 9))
        (model / "generation_config.json").write_text('{"max_new_tokens": 6, "eos_token_id": []}')
        self.assertTrue(torch.equal(self.generate(model, inputs)["sequences"], free))

    def test_sampling_options_without_sampling_are_warned_of(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        (model / "generation_config.json").write_text('{"top_p": 0.9}')
        arguments = ("generate", "--model", model, "--input-ids", inputs, "--output", self.folder / "out.safetensors")

        def warnings(*options) -> list:
            lines = self.start(*arguments, *options).stderr.decode().splitlines()
            return [line for line in lines if "do_sample" in line]

        (warning,) = warnings("--temperature", 0.5, "--top-k", 50)
        self.assertTrue(warning.startswith("warning: ") and warning.endswith("temperature, top_p"), warning)
        self.assertEqual(warnings("--temperature", 0.5, "--do-sample"), [])
        self.assertEqual(warnings("--do-sample=false"), [])

    def test_several_end_tokens_and_a_pad_id_of_0(self):
        inputs = self.tensors(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]))
        model = self.model()
        free = self.generate(model, inputs, "--max-new-tokens", 6, "--eos-token-id", "[]")["sequences"]
        self.assertEqual(free.shape, (2, 9))
        end = free[0, 3].item()
        ids = json.dumps([end, 38])
        ended = self.generate(model, inputs, "--max-new-tokens", 6, "--eos-token-id", ids, "--pad-token-id", 0)
        self.assertEqual(ended["sequences"][0, 3:].tolist()[:1], [end])
        self.assertTrue((ended["sequences"][0, 4:] == 0).all())

    def test_a_static_cache_gives_the_same_ids(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        rows = [self.generate(model, inputs, "--cache", cache)["sequences"].tolist() for cache in ("dynamic", "static")]
        self.assertEqual(*rows)

    def test_flash_attention_gives_the_same_ids_with_either_cache(self):
        ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
        model, inputs = self.model(), self.tensors(input_ids=ids, attention_mask=mask)
        options = ("--max-new-tokens", 8, "--eos-token-id", "[]")
        expected = self.generate(model, inputs, "--attn", "eager", *options)["sequences"]
        for cache in ("dynamic", "static"):
            found = self.generate(model, inputs, "--attn", "flash", "--cache", cache, *options)["sequences"]
            self.assertTrue(torch.equal(found, expected), cache)

    def test_the_dtype_asked_for_is_that_of_a_converted_folder(self):
        model, converted = self.model(), self.folder / "half"
        inputs = self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        self.run_program("convert", "--model", model, "--output", converted, "--dtype", "bfloat16")
        options = ("--max-new-tokens", 3, "--output-scores")
        found = self.generate(model, inputs, "--dtype", "bfloat16", *options)
        self.assert_close(found, self.generate(converted, inputs, *options))
        self.assertFalse(torch.equal(found["scores.0"], self.generate(model, inputs, *options)["scores.0"]))

    def test_drafts_give_the_ids_that_come_without_them(self):
        model, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7, 8, 5, 6]]))
        options = ("--max-new-tokens", 12, "--eos-token-id", "[]")
        expected = self.generate(model, inputs, *options)["sequences"].tolist()
        for drafts in (("--prompt-lookup-num-tokens", 3), ("--assistant-model", model, "--num-assistant-tokens", 2)):
            with self.subTest(drafts=drafts):
                self.assertEqual(self.generate(model, inputs, *options, *drafts)["sequences"].tolist(), expected)
        beams = ("generate", "--model", model, "--input-ids", inputs, "--output", self.folder / "o.safetensors")
        self.assert_fails(*beams, "--num-beams", 2, "--prompt-lookup-num-tokens", 2, says=("assisted decoding", "beams"))

    def test_any_of_several_stop_strings_ends_the_text(self):
        model = self.talking_model()
        common = ("generate", "--model", model, "--prompt", "The library", "--max-new-tokens", 24, "--eos-token-id", "[]")
        free = self.run_program(*common)
        stop = re.search("[a-z]{3}", free)[0]
        self.assertLess(free.index(stop), len(free) - 40)
        for stops in (("--stop", stop), ("--stop", "never said", "--stop", stop), ("--stop", stop, "--stop", "never")):
            text = self.run_program(*common, *stops).removesuffix("\n")
            self.assertTrue(free.startswith(text) and len(text) < len(free) - 20, (free, text))
            self.assertIn(stop, text)
        self.assertEqual(self.run_program(*common, "--stop", "never said"), free)

    def test_stdout_is_the_new_text_and_stderr_the_account(self):
        model = self.talking_model()
        arguments = ("generate", "--model", model, "--prompt", "The library", "--max-new-tokens", 8)
        result = self.start(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(result.stdout.decode().startswith("The library"))
        for word in ("prompt:", "new:", "tokens/s", "memory:"):
            self.assertIn(word, result.stderr.decode())
        quiet = self.start(*arguments, "--quiet")
        self.assertEqual((quiet.stdout, quiet.stderr), (result.stdout, b""))

    def test_text_is_the_decoded_ids(self):
        model, output = self.talking_model(), self.folder / "out.safetensors"
        text = self.run_program(
            "generate", "--model", model, "--prompt", "The library", "--max-new-tokens", 8, "--output", output
        )
        prompt = json.loads(self.run_program("tokenize", "--model", model, "--text", "The library"))["ids"]
        sequence = load_file(output)["sequences"][0].tolist()
        self.assertEqual(sequence[: len(prompt)], prompt)
        ids = ",".join(map(str, sequence[len(prompt) :]))
        self.assertEqual(text, self.run_program("detokenize", "--model", model, "--ids", ids))

    def test_a_prompt_file_is_a_batch_padded_on_the_left(self):
        model, output = self.talking_model(), self.folder / "out.safetensors"
        prompts, alone = ("The", "A tokenizer cuts words into pieces"), []
        options = ("--max-new-tokens", 5, "--eos-token-id", "[]", "--pad-token-id", 2)
        for prompt in prompts:
            alone.append(self.run_program("generate", "--model", model, "--prompt", prompt, *options))
        (self.folder / "prompts.txt").write_text("\n".join(prompts))
        batch = self.run_program(
            "generate", "--model", model, "--prompt-file", self.folder / "prompts.txt", "--output", output, *options
        )
        self.assertEqual(batch, "".join(alone))
        self.assertEqual(load_file(output)["sequences"][0, 0].item(), 2)

    def test_chat_prompts_are_the_ids_of_the_template(self):
        model, output = self.talking_model(), self.folder / "out.safetensors"
        for chat in json.loads((GOLDEN / "tokenization/smollm2/expected.json").read_text())["chats"]:
            roles = [message["role"] for message in chat["messages"]]
            if roles not in (["user"], ["system", "user"]):
                continue
            with self.subTest(messages=chat["messages"]):
                system = ("--system", chat["messages"][0]["content"]) if roles[0] == "system" else ()
                prompt = ("--chat", "--prompt", chat["messages"][-1]["content"], *system)
                self.run_program("generate", "--model", model, *prompt, "--max-new-tokens", 1, "--output", output)
                self.assertEqual(load_file(output)["sequences"][0, :-1].tolist(), chat["prompt"])

    def test_a_conversation_answers_each_line(self):
        options = ("--interactive", "--max-new-tokens", 4, "--eos-token-id", "[]")
        result = self.start("generate", "--model", self.talking_model(), *options, stdin="Hello\n\nAnd then?\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.decode().count("prompt:"), 2)

    def test_bad_id_files_are_refused_by_name(self):
        ids = torch.ones(2, 5, dtype=torch.int64)
        cases = [
            ({"input_ids": ids[0]}, "input_ids must have shape [batch, seq], got [5]"),
            ({"input_ids": ids.float()}, "input_ids must be int64"),
            ({"input_ids": ids * 40}, "[0, 40)"),
            ({"attention_mask": ids}, "input_ids is missing"),
            ({"input_ids": ids, "labels": ids}, "found labels"),
            ({"input_ids": ids, "attention_mask": ids[:, :3]}, "attention_mask must have the shape of input_ids"),
        ]
        model, output = self.model(), self.folder / "out.safetensors"
        for tensors, *says in cases:
            with self.subTest(says=says):
                arguments = ("--model", model, "--input-ids", self.tensors(**tensors), "--output", output)
                self.assert_fails("generate", *arguments, says=says, output=output)


if __name__ == "__main__":
    unittest.main()
