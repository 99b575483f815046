#include <ATen/ATen.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/nn/kernels.h>
#include <transformers/utils/quantization/weight_only.h>

#include <filesystem>
#include <iostream>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/kernels/level.h"

namespace transformers::testing {
namespace {

const QuantizationOptions kInt4{.format = WeightFormat::kInt4, .group_size = 4};

at::Tensor logits_of(CausalLM& model) {
  const at::NoGradGuard no_grad;
  return model.forward({.input_ids = tiny_ids(2, 9)}).logits;
}

void for_each_model(const std::function<void(CausalLM&)>& check) {
  const auto llama = tiny_model(tiny_llama()), gptj = tiny_model(tiny_gptj());
  check(*llama);
  check(*gptj);
}

TEST(QuantizeTest, AModelGivesTheLogitsOfItsRoundedWeights) {
  for (const auto& options : {QuantizationOptions{.activations = ActivationFormat::kFloat}, kInt4}) {
    for_each_model([&](CausalLM& model) {
      const auto before = logits_of(model);
      quantize(model.base_model(), options);
      const auto quantized = logits_of(model);
      dequantize(model.base_model());
      EXPECT_TRUE(tensors_close_to_largest(quantized, logits_of(model), 1e-6));
      EXPECT_FALSE(quantized.equal(before));
    });
  }
}

/// What rounding the activations changes, as a share of the logits.
double error_of_rounded_activations(CausalLM& model, const QuantizationOptions& options) {
  const bool were_on = kernels::enabled();
  set_kernels(true);
  quantize(model.base_model(), options);
  const auto rounded = logits_of(model);
  set_kernels(were_on);
  dequantize(model.base_model());
  const auto exact = logits_of(model);
  const auto error = ((rounded - exact).norm() / exact.norm()).item<double>();
  std::cout << (options.format == WeightFormat::kInt8 ? "int8" : "int4") << " weights: error " << error << '\n';
  return error;
}

// Each matmul adds about a hundredth; those of two layers add up.
TEST(QuantizeTest, RoundedActivationsMoveTheLogitsLittle) {
  for_each_model([](CausalLM& model) {
    const auto error = error_of_rounded_activations(model, {});
    EXPECT_GT(error, 0);
    EXPECT_LT(error, 4e-2);
  });
  auto config = tiny_llama();
  config.intermediate_size = 24;
  const auto error =
      error_of_rounded_activations(*tiny_model(config), {.format = WeightFormat::kInt4, .group_size = 8});
  EXPECT_GT(error, 0);
  EXPECT_LT(error, 4e-2);
}

TEST(QuantizeTest, TheFootprintIsThatOfTheRoundedWeights) {
  for (const auto& options : {QuantizationOptions{}, kInt4}) {
    for_each_model([&](CausalLM& model) {
      auto expected = model.get_memory_footprint();
      quantize(model.base_model(), options);
      for (const auto& module : model.base_model().modules()) {
        if (const auto* linear = module->as<LinearImpl>()) {
          expected += linear->method()->bytes() - static_cast<int64_t>(linear->weight.nbytes());
        }
      }
      EXPECT_EQ(model.get_memory_footprint(), expected);
    });
  }
}

TEST(QuantizeTest, TheHeadStaysAsItIs) {
  for_each_model([](CausalLM& model) {
    quantize(model.base_model());
    EXPECT_EQ(model.get_output_embeddings()->method(), nullptr);
    EXPECT_FALSE(model.get_output_embeddings()->weight.is_meta());
  });
}

TEST(QuantizeTest, GeneratesWithACacheWhatItGeneratesWithout) {
  for_each_model([](CausalLM& model) {
    quantize(model.base_model(), kInt4);
    auto config = model.generation_config;
    config.max_new_tokens = 6;
    config.eos_token_id.clear();
    const auto cached = generate(model, {.input_ids = tiny_ids(1, 5)}, config).sequences;
    config.use_cache = false;
    EXPECT_TENSORS_EQUAL(generate(model, {.input_ids = tiny_ids(1, 5)}, config).sequences, cached);
  });
}

TEST(QuantizeTest, NamedModulesAreLeftOut) {
  const auto model = tiny_model(tiny_llama());
  quantize(model->base_model(), {.modules_to_not_convert = {"layers.1", "q_proj"}});
  for (const auto& parameter : model->named_parameters()) {
    const bool is_product = parameter.key().starts_with("model.layers.0.") && parameter.key().ends_with("_proj.weight");
    EXPECT_EQ(parameter.value().is_meta(), is_product && !parameter.key().ends_with("q_proj.weight"))
        << parameter.key();
  }
}

TEST(QuantizeTest, IsSavedOnlyOnceDequantised) {
  const TemporaryFolder folder;
  const auto model = tiny_model(tiny_llama());
  quantize(model->base_model());
  EXPECT_ERROR(model->save_pretrained(folder / "model"), "q_proj.weight has no values here", "dequantised");
  EXPECT_FALSE(std::filesystem::exists(folder / "model/model.safetensors"));
  dequantize(model->base_model());
  model->save_pretrained(folder / "model");
  EXPECT_TRUE(std::filesystem::exists(folder / "model/model.safetensors"));
}

TEST(QuantizeTest, RefusesWhatDoesNotFitAndChangesNothing) {
  const auto model = tiny_model(tiny_llama());
  const auto before = logits_of(*model);
  EXPECT_ERROR(quantize(model->base_model(), {.format = WeightFormat::kInt4, .group_size = 64}),
               "layers.0.self_attn.q_proj", "group_size", "64");
  EXPECT_ERROR(quantize(model->base_model(), {.modules_to_not_convert = {"query"}}), "modules_to_not_convert", "query");
  EXPECT_ERROR(quantize(model->base_model(), {.format = WeightFormat::kInt4, .group_size = 3}), "even");
  EXPECT_TENSORS_EQUAL(logits_of(*model), before);
  quantize(model->base_model());
  EXPECT_ERROR(quantize(model->base_model()), "layers.0.self_attn.q_proj", "plain linear method");
}

}  // namespace
}  // namespace transformers::testing
