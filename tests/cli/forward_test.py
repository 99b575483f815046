"""The program's `forward`: what it writes, under which names, and what it refuses."""

import unittest

import torch
from program import ProgramTest, read_golden, under
from safetensors.torch import load_file


class ForwardTest(ProgramTest):
    def forward(self, model, inputs, *options) -> dict:
        output = self.folder / "out.safetensors"
        self.assertEqual(
            self.run_program("forward", "--model", model, "--inputs", inputs, "--output", output, *options), ""
        )
        return load_file(output)

    def assert_refused(self, tensors: dict, *says, golden: str = "models/llama_gqa", options: tuple = ()) -> None:
        model = self.folder / "model"
        model = model if model.exists() else self.model(golden)
        inputs, output = self.tensors(**tensors), self.folder / "out.safetensors"
        arguments = ("--model", model, "--inputs", inputs, "--output", output, *options)
        self.assert_fails("forward", *arguments, says=(str(inputs), *says), output=output)

    def assert_matches(self, golden: str, *options, without: tuple = ()) -> None:
        tensors = read_golden(golden)[1]
        found = self.forward(self.model(golden), self.tensors(**under(tensors, "inputs.")), "--attn", "eager", *options)
        expected = under(tensors, "outputs.") | {f"grad.{n}": t for n, t in under(tensors, "grads.").items()}
        self.assert_close(found, {n: t for n, t in expected.items() if not n.startswith(without)})

    def test_writes_what_transformers_gives_with_one_gradient_for_a_tied_weight(self):
        everything = ("--output-hidden-states", "--output-attentions", "--use-cache", "--grads")
        self.assert_matches("models/llama_tied_embeddings", *everything)

    def test_writes_nothing_that_was_not_asked_for(self):
        self.assert_matches(
            "models/llama_tied_embeddings", without=("hidden_states", "attentions", "past_key_values", "grad")
        )

    def test_continues_from_a_cache_in_the_file(self):
        for family in ("llama", "gptj"):
            with self.subTest(family=family):
                tensors = read_golden(f"models/{family}_given_cache")[1]
                model = self.model(f"models/{family}_given_cache", name=family)
                found = self.forward(model, self.tensors(**under(tensors, "inputs.")), "--attn", "eager")
                self.assert_close(found, {"logits": tensors["outputs.logits"]})

    def test_each_task_has_its_outputs(self):
        ids = torch.randint(3, 40, (2, 5))
        one = torch.tensor([1, 3])
        cases = {
            "base": ({}, {"last_hidden_state"}),
            "causal-lm": ({"labels": ids}, {"logits", "loss"}),
            "sequence-classification": ({"labels": torch.tensor([0, 1])}, {"logits", "loss"}),
            "token-classification": ({"labels": ids % 2}, {"logits", "loss"}),
            "question-answering": (
                {"start_positions": one, "end_positions": one},
                {"start_logits", "end_logits", "loss"},
            ),
        }
        for family in ("llama_gqa", "gptj_one_head"):
            model = self.model(f"models/{family}", name=family, pad_token_id=0)
            for task, (labels, names) in cases.items():
                with self.subTest(family=family, task=task):
                    found = self.forward(model, self.tensors(input_ids=ids, **labels), "--task", task, "--quiet")
                    self.assertEqual(set(found), names)
                    self.assertTrue(all(tensor.dtype == torch.float32 for tensor in found.values()))
                    self.assertTrue("loss" not in found or found["loss"].shape == ())

    def test_same_seed_same_model_and_dropout(self):
        inputs = self.tensors(input_ids=torch.randint(0, 40, (2, 5)))
        config = self.model("models/gptj_one_head", resid_pdrop=0.5) / "config.json"

        def logits(*options):
            output = self.folder / "out.safetensors"
            self.run_program("forward", "--config", config, "--inputs", inputs, "--output", output, *options)
            return load_file(output)["logits"]

        first = logits("--seed", 7, "--train", "--num-threads", 1)
        self.assertTrue(torch.equal(first, logits("--seed", 7, "--train", "--num-threads", 1)))
        self.assertFalse(torch.equal(first, logits("--seed", 8, "--train")))
        self.assertFalse(torch.equal(first, logits("--seed", 7)))

    def test_the_dtype_asked_for_is_that_of_a_converted_folder(self):
        model, converted = self.model(), self.folder / "half"
        inputs = self.tensors(input_ids=torch.randint(0, 40, (2, 5)))
        self.run_program("convert", "--model", model, "--output", converted, "--dtype", "bfloat16")
        found = self.forward(model, inputs, "--dtype", "bfloat16")["logits"]
        self.assertTrue(torch.equal(found, self.forward(converted, inputs)["logits"]))
        self.assertFalse(torch.equal(found, self.forward(model, inputs)["logits"]))
        self.assertEqual(found.dtype, torch.float32)

    def test_flash_attention_leaves_out_padding(self):
        ids, mask = torch.randint(0, 40, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
        mask[1, :3] = 0
        model, inputs = self.model(), self.tensors(input_ids=ids, attention_mask=mask)
        flash, eager = (self.forward(model, inputs, "--attn", name)["logits"] for name in ("flash", "eager"))
        torch.testing.assert_close(flash[mask == 1], eager[mask == 1], rtol=1e-5, atol=1e-6)
        self.assertFalse(torch.equal(flash[mask == 0], eager[mask == 0]))

    def test_unknown_names_are_answered_with_those_the_model_takes(self):
        ids = torch.ones(1, 3, dtype=torch.int64)
        known = ("attention_mask, input_ids, inputs_embeds, labels, position_ids", "past_key_values.{i}.key")
        self.assert_refused({"input_ids": ids, "tokens": ids}, '"tokens"', *known)
        self.assert_refused({"input_ids": ids, "head_mask": torch.ones(4)}, '"head_mask"', *known)

    def test_shapes_and_values_are_refused_by_name(self):
        ids = torch.ones(2, 5, dtype=torch.int64)
        cache = {f"past_key_values.{i}.{part}": torch.zeros(3, 2, 4, 6) for i in (0, 1) for part in ("key", "value")}
        cases = [
            ({}, "input_ids or inputs_embeds must be given"),
            ({"input_ids": ids[0]}, "input_ids must have shape [-1, -1]", "got [5]"),
            ({"input_ids": ids[:, :0]}, "input_ids must not be empty"),
            ({"input_ids": ids.float()}, "input_ids must be int64"),
            ({"input_ids": ids * 40}, "input_ids must be in [0, 40), got values from 40 to 40"),
            ({"input_ids": ids, "inputs_embeds": torch.zeros(2, 5, 24)}, "got both"),
            ({"inputs_embeds": torch.zeros(2, 5, 23)}, "inputs_embeds must have shape [-1, -1, 24]"),
            ({"input_ids": ids, "attention_mask": ids[:, :4]}, "attention_mask must have shape [2, 5]", "got [2, 4]"),
            ({"input_ids": ids, "attention_mask": ids[0]}, "attention_mask must have shape [2, 5]", "got [5]"),
            ({"input_ids": ids, "position_ids": ids[:, :4]}, "position_ids must have shape [2, 5] or [1, 5]"),
            ({"input_ids": ids, "position_ids": -ids}, "position_ids must be in [0, "),
            ({"input_ids": ids, "labels": ids[:, :4]}, "labels must have shape [2, 5]"),
            ({"input_ids": ids, "labels": ids * -1}, "labels must be in [0, 40) or -100"),
            ({"input_ids": ids, "attention_mask": torch.ones(2, 3, 5, 5)}, "attention_mask must", "or [2, 4, 5, 5]"),
            ({"input_ids": ids} | cache, "past_key_values.0.key must have shape [2, 2, 4, 6]", "got [3, 2, 4, 6]"),
            ({"input_ids": ids, "past_key_values.0.key": torch.zeros(2, 2, 4, 6)}, "key and value for every layer"),
            ({"input_ids": ids, "past_key_values.9.key": torch.zeros(2, 2, 4, 6)}, "beyond the model's 2 layers"),
        ]
        for tensors, *says in cases:
            with self.subTest(says=says):
                self.assert_refused(tensors, *says)

    def test_a_head_mask_has_a_value_for_each_head(self):
        tensors = {"input_ids": torch.ones(1, 3, dtype=torch.int64), "head_mask": torch.ones(7)}
        self.assert_refused(tensors, "head_mask must have shape [3] or [2, 3]", golden="models/gptj_base_model")

    def test_gradients_need_labels(self):
        self.assert_refused({"input_ids": torch.ones(1, 3, dtype=torch.int64)}, "labels", options=("--grads",))

    def test_a_failed_run_leaves_an_older_output_as_it_was(self):
        output = self.tensors("out.safetensors", older=torch.ones(2))
        inputs = self.tensors(input_ids=torch.ones(3, dtype=torch.int64))
        self.assert_fails("forward", "--model", self.model(), "--inputs", inputs, "--output", output)
        self.assertEqual(list(load_file(output)), ["older"])

    def test_only_tensor_files_are_overwritten(self):
        inputs = self.tensors(input_ids=torch.ones(1, 3, dtype=torch.int64))
        older = self.tensors("older", a=torch.ones(2))
        model, other = self.model(), self.folder / "notes.txt"
        other.write_text("mine")
        arguments = ("forward", "--model", model, "--inputs", inputs, "--output")
        self.run_program(*arguments, older)
        self.assertEqual(list(load_file(older)), ["logits"])
        for taken in (other, model):
            self.assert_fails(*arguments, taken, says=(str(taken), "is not overwritten"))
        self.assertEqual(other.read_text(), "mine")

    def test_an_output_that_cannot_be_written_is_an_error(self):
        inputs = self.tensors(input_ids=torch.ones(1, 3, dtype=torch.int64))
        output = self.folder / "none" / "out.safetensors"
        self.assert_fails(
            "forward", "--model", self.model(), "--inputs", inputs, "--output", output, says=(str(output),)
        )


if __name__ == "__main__":
    unittest.main()
