"""Folders as other programs and people write them: what would be read wrongly is refused, what does no harm is read.

Right answers are those of transformers 5.23.0 unless a test says otherwise."""

import json
import unittest

import torch
from program import GOLDEN, ProgramTest
from safetensors.torch import load_file, save_file

CHAT_ML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class ForeignFolderTest(ProgramTest):
    def edit_config(self, folder, **changes) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    def edit_weights(self, folder, change) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    def ways_to_load(self, folder) -> list:
        inputs, output = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64)), self.folder / "out.safetensors"
        return [
            ("convert", "--model", folder, "--output", self.folder / "converted"),
            ("forward", "--model", folder, "--inputs", inputs, "--output", output),
            ("generate", "--model", folder, "--input-ids", inputs, "--output", output),
            ("prune", "--model", folder, "--output", self.folder / "pruned", "--intermediate", "0.5"),
        ]

    def assert_refused_everywhere(self, folder, *says, inspect_prints: bool) -> None:
        for command in self.ways_to_load(folder):
            with self.subTest(command=command[0]):
                self.assert_fails(*command, says=says)
        result = self.start("inspect", folder)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(bool(result.stdout), inspect_prints)
        for part in says:
            self.assertIn(part, result.stderr.decode())

    def test_quantised_folders_are_refused_by_method(self):
        for key, value, method in (
            ("quantization_config", {"quant_method": "fp8", "weight_block_size": [128, 128]}, '"fp8"'),
            ("quantization_config", {"quant_method": "gptq", "bits": 4}, '"gptq"'),
            ("quantization_config", {"bits": 4}, "does not name"),
            ("quantization", {"group_size": 64, "bits": 4}, "does not name"),
        ):
            with self.subTest(key=key, method=method):
                folder = self.model(name=method.strip('"') + key, **{key: value})
                says = (str(folder / "config.json"), key, method)
                self.assert_refused_everywhere(folder, *says, inspect_prints=False)

    def test_codes_whose_scales_lie_beside_them_are_refused(self):
        folder, name = self.model(), "model.layers.0.mlp.up_proj.weight"

        def quantise(weights):
            weights[name] = weights[name].to(torch.float8_e4m3fn)
            weights[name + "_scale_inv"] = torch.ones(1, 1)

        self.edit_weights(folder, quantise)
        says = ("model.safetensors", f"tensor {name}:", f"{name}_scale_inv")
        self.assert_refused_everywhere(folder, *says, inspect_prints=True)

    def test_whole_numbers_are_no_weights(self):
        for dtype in (torch.int8, torch.int64, torch.bool, torch.uint8):
            with self.subTest(dtype=dtype):
                folder, name = self.model(name=str(dtype)), "model.layers.1.self_attn.q_proj.weight"
                self.edit_weights(folder, lambda weights: weights.update({name: weights[name].to(dtype)}))
                says = ("model.safetensors", f"tensor {name}: expected a floating-point weight, found")
                self.assert_refused_everywhere(folder, *says, inspect_prints=True)

    def test_an_unknown_class_keeps_its_head_and_its_name(self):
        folder = self.model(architectures=["LlamaForRewardModel"])
        self.edit_weights(folder, lambda weights: weights.update({"score.weight": torch.zeros(1, 24)}))
        output = self.folder / "converted"
        self.run_program("convert", "--model", folder, "--output", output)
        self.assertIn("lm_head.weight", load_file(output / "model.safetensors"))
        self.assertEqual(json.loads((output / "config.json").read_text())["architectures"], ["LlamaForRewardModel"])

    def test_an_unknown_class_with_another_head_alone_is_refused_rather_than_cut(self):
        folder = self.model(architectures=["LlamaForRewardModel"])
        self.edit_weights(folder, lambda weights: weights.update({"score.weight": weights.pop("lm_head.weight")[:1].clone()}))
        says = (str(folder / "config.json"), "architectures", '"LlamaForRewardModel"')
        self.assert_fails("convert", "--model", folder, "--output", self.folder / "converted", says=says)
        self.assert_fails("inspect", folder, says=says)

    def test_one_architecture_may_stand_alone(self):
        folder = self.model(architectures="LlamaForCausalLM", rope_scaling=False)
        self.run_program("inspect", folder)

    def test_a_head_size_that_no_weight_has_is_not_allocated(self):
        folder = self.model(head_dim=2147483646)
        self.assert_refused_everywhere(folder, "config.json", "2147483646", inspect_prints=False)

    def test_numbers_of_any_size_may_stand_where_nobody_reads(self):
        folder = self.talking_model()
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config["model_max_length"] = int(1e30)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        self.edit_config(folder, somebody_elses=int(1e30))
        self.assertEqual(json.loads(self.run_program("tokenize", "--model", folder, "--text", "a"))["ids"], [81])
        self.run_program("inspect", folder)

    def test_a_folder_that_is_not_there_is_called_that(self):
        for name in ("org/name", str(self.folder / "none")):
            for command in self.ways_to_load(name)[:3] + [("inspect", name), ("tokenize", "--model", name, "--text", "a")]:
                self.assert_fails(*command, says=(f"{name}: no such folder",))

    def test_settings_of_sampling_keep_no_folder_from_loading(self):
        folder, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        generate = ("generate", "--model", folder, "--input-ids", inputs, "--output", self.folder / "out.safetensors")
        for bad, cure in (
            ({"do_sample": True, "temperature": 0.0}, ("--temperature", "0.7")),
            ({"do_sample": True, "top_p": -1.0}, ("--top-p", "0.9")),
            ({"num_beams": 0}, ("--num-beams", "1")),
            ({"num_return_sequences": 2}, ("--num-beams", "2")),
            ({"num_beams": 100000}, ("--num-beams", "2")),
            ({"cache_implementation": "hybrid"}, ("--cache", "dynamic")),
            ({"cache_implementation": "static", "max_length": 2147483647}, ("--max-new-tokens", "2")),
        ):
            with self.subTest(bad=bad):
                (folder / "generation_config.json").write_text(json.dumps(bad))
                self.run_program("inspect", folder)
                self.run_program(*self.ways_to_load(folder)[1])
                self.assert_fails(*generate, says=(list(bad)[-1] if "cache" not in str(bad) else "cache",))
                self.run_program(*generate, *cure, "--seed", 1, "--eos-token-id", "[]")

    def test_ways_of_generating_that_are_not_there_are_named(self):
        folder, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        generate = ("generate", "--model", folder, "--input-ids", inputs, "--output", self.folder / "out.safetensors")
        for asked, without in (
            ({"penalty_alpha": 0.6, "top_k": 4}, {"penalty_alpha": 0.6, "top_k": 1}),
            ({"penalty_alpha": 0.6}, {"penalty_alpha": 0.6, "do_sample": True}),
            ({"num_beam_groups": 2, "num_beams": 4}, {"num_beam_groups": 2}),
            ({"dola_layers": "low"}, {"dola_layers": None}),
            ({"force_words_ids": [[1]], "num_beams": 2}, {"force_words_ids": None}),
            ({"encoder_no_repeat_ngram_size": 2}, {"encoder_no_repeat_ngram_size": 0}),
            ({"encoder_repetition_penalty": 1.5}, {"encoder_repetition_penalty": 1.0}),
            ({"token_healing": True}, {"token_healing": False}),
            ({"assistant_early_exit": 2}, {"assistant_early_exit": None}),
            ({"assistant_ensemble_weight": 0.5}, {"assistant_ensemble_weight": None}),
        ):
            with self.subTest(asked=asked):
                (folder / "generation_config.json").write_text(json.dumps(asked))
                self.assert_fails(*generate, says=(next(iter(asked)), "not supported"))
                (folder / "generation_config.json").write_text(json.dumps(without))
                self.run_program(*generate)
        (folder / "generation_config.json").unlink()
        self.edit_config(folder, penalty_alpha=0.6)
        self.assert_fails(*generate, says=("penalty_alpha",))

    def test_a_negative_temperature_is_wrong_even_where_nothing_is_drawn(self):
        folder, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        generate = ("generate", "--model", folder, "--input-ids", inputs, "--output", self.folder / "out.safetensors")
        self.assert_fails(*generate, "--temperature", "-1", status=2)

    def test_a_prompt_that_is_too_long_is_told_who_says_so(self):
        folder, inputs = self.model(), self.tensors(input_ids=torch.tensor([[5, 6, 7]]))
        generate = ("generate", "--model", folder, "--input-ids", inputs, "--output", self.folder / "out.safetensors")
        self.assert_fails(*generate, "--max-length", 3, says=("max_length, which the call sets", "3 and 3 tokens"))
        (folder / "generation_config.json").write_text('{"max_length": 2}')
        self.assert_fails(*generate, says=("max_length, which the model's generation config sets",))

    def test_markers_that_are_not_flagged_as_special_still_mark(self):
        folder = self.talking_model()
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        for token in tokenizer["added_tokens"]:
            token["special"] = False
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_ML}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        self.run_program("generate", "--model", folder, "--chat", "--prompt", "hi <|im_end|>", "--max-new-tokens", 1)

    def test_the_generation_config_of_a_classifier_comes_along(self):
        folder = self.model("models/gptj_base_model")
        (folder / "generation_config.json").write_text('{"max_new_tokens": 4}')
        output = self.folder / "converted"
        self.run_program("convert", "--model", folder, "--output", output)
        self.assertEqual((output / "generation_config.json").read_text(), '{"max_new_tokens": 4}')

    def test_positions_of_answers_outside_the_text_are_clamped(self):
        ids = torch.randint(0, 40, (2, 5))
        output = self.folder / "out.safetensors"

        def loss(start, end):
            positions = {"start_positions": torch.tensor(start), "end_positions": torch.tensor(end)}
            inputs = self.tensors(input_ids=ids, **positions)
            command = ("forward", "--config", folder / "config.json", "--seed", 3, "--task", "question-answering")
            self.run_program(*command, "--inputs", inputs, "--output", output)
            return load_file(output)["loss"]

        folder = self.model("models/llama_gqa")
        self.assertTrue(torch.equal(loss([-3, 1], [2, -1]), loss([0, 1], [2, 0])))
        self.assertTrue(torch.equal(loss([9, 1], [2, 3]), loss([5, 1], [2, 3])))

    def test_flash_attention_takes_packed_rows(self):
        inputs = {
            "input_ids": torch.randint(0, 40, (2, 7)),
            "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1]]),
        }
        for golden in ("models/llama_gqa", "models/gptj_one_head"):
            model, output = self.model(golden, name=golden.split("/")[1]), self.folder / "out.safetensors"
            logits = []
            for kernel in ("flash", "eager", "sdpa"):
                command = ("forward", "--model", model, "--inputs", self.tensors(**inputs), "--output", output)
                self.run_program(*command, "--attn", kernel, "--task", "base")
                logits.append(load_file(output)["last_hidden_state"])
            torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(logits[0], logits[2], rtol=1e-5, atol=1e-5)

    def test_a_config_may_choose_hidden_states_by_number(self):
        model, output = self.model(output_hidden_states=[0, -1]), self.folder / "out.safetensors"
        inputs = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64))
        self.run_program("forward", "--model", model, "--inputs", inputs, "--output", output, "--task", "base")
        names = {name for name in load_file(output) if name.startswith("hidden_states")}
        self.assertEqual(names, {"hidden_states.0", "hidden_states.2"})

    def test_side_files_count(self):
        for kind in ("side_tokens", "side_files", "vocab_merges"):
            folder, expected = GOLDEN / "tokenization" / kind, json.loads(
                (GOLDEN / "tokenization" / kind / "expected.json").read_text()
            )
            texts = json.loads((GOLDEN / "tokenization" / "corpus.json").read_text())
            at = texts.index(" [MASK] ")
            ids = json.loads(self.run_program("tokenize", "--model", folder, "--text", texts[at]))["ids"]
            self.assertEqual(ids, expected["rows"][at]["ids"])


if __name__ == "__main__":
    unittest.main()
