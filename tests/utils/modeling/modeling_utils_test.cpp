#include <ATen/ATen.h>
#include <torch/serialize.h>
#include <torch/utils.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/quantization/weight_only.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

class PreTrainedModelTest : public ::testing::TestWithParam<NamedConfig> {
 protected:
  at::Tensor logits(CausalLM& model) const { return model.forward({.input_ids = ids_}).logits; }

  const at::NoGradGuard no_grad_;
  const std::shared_ptr<CausalLM> model_ = tiny_model(*GetParam().config);
  const at::Tensor ids_ = tiny_ids(2, 7);
};

TEST_P(PreTrainedModelTest, ClonesGiveTheSameAndShareNoMemory) {
  const auto before = logits(*model_).clone();
  const auto copy = std::dynamic_pointer_cast<CausalLM>(model_->clone());
  ASSERT_NE(copy, nullptr);
  EXPECT_TENSORS_EQUAL(logits(*copy), before);
  EXPECT_FALSE(copy->is_training());
  copy->get_input_embeddings()->weight.zero_();
  EXPECT_TENSORS_EQUAL(logits(*model_), before);
  EXPECT_EQ(copy->num_parameters(), model_->num_parameters());
}

TEST_P(PreTrainedModelTest, ACastAndBackKeepsWhatTheDtypeHolds) {
  model_->to(at::kBFloat16);
  EXPECT_EQ(model_->dtype(), at::kBFloat16);
  model_->to(at::kFloat);
  const auto rounded = logits(*model_).clone();
  model_->to(at::kDouble);
  EXPECT_TENSORS_CLOSE(logits(*model_).to(at::kFloat), rounded, {.relative = 1e-4, .absolute = 1e-4});
  model_->to(at::kCPU);
  EXPECT_EQ(model_->device(), at::kCPU);
}

TEST_P(PreTrainedModelTest, RotaryDataStaysFp32InEveryCast) {
  model_->to(at::kHalf);
  int64_t buffers = 0;
  for (const auto& module : model_->modules()) {
    if (const auto* own = module->as<Module>()) {
      for (const auto& [name, buffer] : own->non_persistent_buffers()) {
        EXPECT_EQ(buffer.scalar_type(), at::kFloat) << name;
        ++buffers;
      }
    }
  }
  EXPECT_GE(buffers, 1);
}

TEST_P(PreTrainedModelTest, TiedEmbeddingsStayOneTensor) {
  const bool tied = model_->config().tie_word_embeddings;
  const auto is_one = [&] {
    return model_->get_output_embeddings()->weight.is_same(model_->get_input_embeddings()->weight);
  };
  EXPECT_EQ(is_one(), tied);
  model_->to(at::kHalf);
  EXPECT_EQ(is_one(), tied);
  const auto hidden = model_->config().get_hidden_size();
  auto untied = model_->num_parameters();
  model_->config().tie_word_embeddings = true;
  model_->tie_weights();
  EXPECT_TRUE(is_one());
  EXPECT_EQ(untied - model_->num_parameters(), tied ? 0 : 40 * hidden);
}

TEST_P(PreTrainedModelTest, EmbeddingsAreResizedWithHeadBiasAndConfig) {
  const auto before = logits(*model_).clone();
  const auto rows = model_->get_input_embeddings()->weight.clone();
  const bool tied = model_->config().tie_word_embeddings;
  EXPECT_EQ(model_->resize_token_embeddings(std::nullopt)->weight.size(0), 40);
  model_->resize_token_embeddings(45, {.pad_to_multiple_of = 16});
  EXPECT_EQ(model_->config().vocab_size, 48);
  const auto& weight = model_->get_input_embeddings()->weight;
  const auto head = model_->get_output_embeddings();
  EXPECT_EQ(weight.size(0), 48);
  EXPECT_EQ(head->weight.size(0), 48);
  EXPECT_EQ(head->weight.is_same(weight), tied);
  EXPECT_TRUE(weight.requires_grad());
  EXPECT_TENSORS_EQUAL(weight.narrow(0, 0, 40).detach(), rows);
  EXPECT_TENSORS_CLOSE(weight[44].detach(), rows.mean(0), {.relative = 0, .absolute = 1e-3});
  EXPECT_TENSORS_EQUAL(logits(*model_).narrow(-1, 0, 40), before);
  if (head->bias.defined()) {
    EXPECT_TENSORS_CLOSE(head->bias[44].detach(), head->bias.narrow(0, 0, 40).mean().detach());
  }
  model_->resize_token_embeddings(40);
  EXPECT_TENSORS_EQUAL(logits(*model_), before);
}

TEST_P(PreTrainedModelTest, EmbeddingsAreReplaced) {
  Embedding other(40, model_->config().get_hidden_size());
  model_->set_input_embeddings(other);
  EXPECT_TRUE(model_->get_input_embeddings()->weight.is_same(other->weight));
  Linear head(model_->config().get_hidden_size(), 40, /*bias=*/false);
  model_->set_output_embeddings(head);
  EXPECT_TENSORS_EQUAL(
      logits(*model_),
      head->forward(model_->forward({.input_ids = ids_, .output_hidden_states = true}).hidden_states.back()));
}

TEST_P(PreTrainedModelTest, ParametersAreCountedOnce) {
  int64_t count = 0;
  std::set<const void*> seen;
  for (const auto& parameter : model_->parameters()) {
    count += seen.insert(parameter.data_ptr()).second ? parameter.numel() : 0;
  }
  EXPECT_EQ(model_->num_parameters(), count);
  EXPECT_EQ(model_->num_parameters(false, /*exclude_embeddings=*/true),
            count - 40 * model_->config().get_hidden_size());
  EXPECT_EQ(model_->get_memory_footprint(/*with_buffers=*/false), 4 * count);
  EXPECT_GT(model_->get_memory_footprint(), 4 * count);
  model_->get_input_embeddings()->weight.set_requires_grad(false);
  EXPECT_EQ(model_->num_parameters(/*only_trainable=*/true), count - 40 * model_->config().get_hidden_size());
}

TEST_P(PreTrainedModelTest, EmbeddingsOfAFrozenModelTakeGradientsWhenAskedTo) {
  const at::AutoGradMode with_gradients(true);
  for (auto& parameter : model_->parameters()) {
    parameter.requires_grad_(false);
  }
  const auto takes = [&] { return model_->forward({.input_ids = ids_}).logits.requires_grad(); };
  const auto before = logits(*model_);
  EXPECT_FALSE(takes());
  model_->enable_input_require_grads();
  model_->enable_input_require_grads();
  EXPECT_TRUE(takes());
  EXPECT_TENSORS_EQUAL(logits(*model_).detach(), before);
  model_->disable_input_require_grads();
  EXPECT_FALSE(takes());
}

TEST_P(PreTrainedModelTest, GradientsReachEveryParameter) {
  const at::AutoGradMode with_gradients(true);
  const auto model = tiny_model(*GetParam().config);
  model->forward({.input_ids = ids_}, {.labels = ids_}).loss.backward();
  for (const auto& parameter : model->named_parameters()) {
    ASSERT_TRUE(parameter->grad().defined()) << parameter.key();
    EXPECT_TRUE(parameter->grad().isfinite().all().item<bool>()) << parameter.key();
  }
}

INSTANTIATE_TEST_SUITE_P(, PreTrainedModelTest, ::testing::ValuesIn(config_grid()),
                         [](const auto& info) { return info.param.name; });

TEST(LlamaForCausalLMTest, ADecoderSetIsTheOneThatRunsAndIsSaved) {
  const at::NoGradGuard no_grad;
  LlamaForCausalLM model(tiny_llama()), other(tiny_llama());
  const auto ids = tiny_ids(2, 5);
  model->set_decoder(other->get_decoder());
  EXPECT_EQ(model->get_decoder().ptr(), other->model.ptr());
  const auto hidden = other->model->forward({.input_ids = ids}).last_hidden_state;
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids}).logits, model->lm_head->forward(hidden));
  EXPECT_TRUE(model->named_parameters()["model.norm.weight"].is_same(other->model->norm->weight));
}

TEST(ConstructionTest, MetaModelsHaveShapesAndNoMemory) {
  auto config = tiny_llama();
  config.hidden_size = 1 << 20;
  config.intermediate_size = 1 << 20;
  config.num_attention_heads = 1 << 10;
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  LlamaForCausalLM model(config);
  EXPECT_TRUE(model->lm_head->weight.is_meta());
  EXPECT_GT(model->num_parameters(), int64_t{1} << 40);
}

TEST(ConstructionTest, AConfigAsksForNoMemoryBesideItsWeights) {
  auto config = tiny_gptj();
  config.n_positions = 2147483647;
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  EXPECT_LT(GPTJForCausalLM(config)->get_memory_footprint() - GPTJForCausalLM(tiny_gptj())->get_memory_footprint(), 1);
}

TEST(ConstructionTest, DtypeIsThatOfTheOptions) {
  const ConstructionGuard guard({.dtype = c10::kBFloat16});
  EXPECT_EQ(GPTJForCausalLM(tiny_gptj())->dtype(), at::kBFloat16);
}

TEST(InitialisationTest, IsDrawnAsPythonDraws) {
  torch::manual_seed(3);
  auto config = tiny_gptj();
  config.n_embd = 96;
  config.vocab_size = 400;
  config.initializer_range = 0.02;
  GPTJForCausalLM model(config);
  for (const auto& parameter : model->named_parameters()) {
    SCOPED_TRACE(parameter.key());
    const auto values = parameter.value().detach();
    if (parameter.key().find("ln_") != std::string::npos || parameter.key().ends_with("bias")) {
      const bool is_norm_weight = parameter.key().ends_with("weight");
      EXPECT_TENSORS_EQUAL(values, at::full_like(values, is_norm_weight ? 1.0 : 0.0));
    } else {
      EXPECT_NEAR(values.std().item<double>(), 0.02, 0.002);
      EXPECT_NEAR(values.mean().item<double>(), 0.0, 0.002);
    }
  }
}

TEST(InitialisationTest, ThePaddingRowIsZeroAndGetsNoGradient) {
  LlamaForCausalLM model(tiny_llama());
  EXPECT_TENSORS_EQUAL(model->model->embed_tokens->weight[0].detach(), at::zeros({24}));
  const auto ids = at::tensor({0, 5, 6}, at::kLong).unsqueeze(0);
  model->forward({.input_ids = ids}, {.labels = ids}).loss.backward();
  EXPECT_TENSORS_EQUAL(model->model->embed_tokens->weight.grad()[0], at::zeros({24}));
}

// HF's GPT-J has no padding row, so it goes on.
TEST(ModelNamesTest, GptjIsResizedBelowItsPaddingToken) {
  auto config = tiny_gptj();
  config.pad_token_id = 30;
  GPTJForCausalLM model(config);
  model->resize_token_embeddings(20);
  EXPECT_EQ(model->get_input_embeddings()->weight.size(0), 20);
  const TemporaryFolder folder;
  model->save_pretrained(folder.path());
  EXPECT_EQ(GPTJForCausalLM::from_pretrained(folder.path())->config().vocab_size, 20);
}

// Which are given is what transformers 5.23 gives for the same argument.
TEST(ModelNamesTest, LlamaGivesTheHiddenStatesThatAreChosen) {
  LlamaModel model(tiny_llama());
  model->eval();
  const auto ids = at::tensor({3, 5, 6}, at::kLong).unsqueeze(0);
  const auto all = model->forward({.input_ids = ids, .output_hidden_states = true}).hidden_states;
  const auto last = static_cast<int64_t>(all.size()) - 1;
  const auto chosen = [&](const OutputHiddenStates& states) {
    std::vector<int64_t> found;
    const auto given = model->forward({.input_ids = ids, .output_hidden_states = states}).hidden_states;
    for (size_t i = 0; i < given.size(); ++i) {
      if (given[i].defined()) {
        EXPECT_TENSORS_EQUAL(given[i], all[i]);
        found.push_back(static_cast<int64_t>(i));
      }
    }
    EXPECT_TRUE(given.empty() || given.size() == all.size());
    return found;
  };
  using Numbers = std::vector<int64_t>;
  EXPECT_EQ(chosen({0, 2}), (Numbers{0, 2}));
  EXPECT_EQ(chosen(1), Numbers{1});
  EXPECT_EQ(chosen(-1), Numbers{last});
  EXPECT_EQ(chosen({-1 - last, last + 1, -9}), Numbers{0});
  EXPECT_EQ(chosen(0), Numbers{});
  EXPECT_EQ(chosen(Numbers{}), Numbers{});
  GPTJModel gptj(tiny_gptj());
  for (const auto& states : gptj->forward({.input_ids = ids, .output_hidden_states = {0}}).hidden_states) {
    EXPECT_TRUE(states.defined());
  }
}

TEST(ModelNamesTest, ArchitecturesAreThoseOfPython) {
  EXPECT_EQ(LlamaModel(tiny_llama())->architecture(), "LlamaModel");
  EXPECT_EQ(GPTJForTokenClassification(tiny_gptj())->architecture(), "GPTJForTokenClassification");
}

TEST(ModelNamesTest, RefusesSizesAndHeadsThatAreNotThere) {
  LlamaForCausalLM model(tiny_llama());
  EXPECT_ERROR(model->resize_token_embeddings(0), "new_num_tokens", "got 0");
  EXPECT_ERROR(model->resize_token_embeddings(45, {.pad_to_multiple_of = 0}), "pad_to_multiple_of", "got 0");
  auto padded = tiny_llama();
  padded.pad_token_id = 30;
  EXPECT_ERROR(LlamaForCausalLM(padded)->resize_token_embeddings(30), "above pad_token_id, got 30 and 30");
  quantize(*model, {.modules_to_not_convert = {"model"}});
  EXPECT_ERROR(model->resize_token_embeddings(45), "output embeddings", "adapted or quantised", "nor resized");
  EXPECT_EQ(model->get_input_embeddings()->weight.size(0), 40);
  LlamaModel base(tiny_llama());
  EXPECT_ERROR(base->set_output_embeddings(Linear(2, 2)), "LlamaModel", "no output embeddings");
  EXPECT_TRUE(base->get_output_embeddings().is_empty());
}

// As Python's load_state_dict, which copies into the tensors that are there.
TEST(TorchArchiveTest, ValuesAreCastAndTiesStay) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto half = tiny_model(config, at::kBFloat16), full = tiny_model(config);
  std::stringstream stream;
  torch::save(std::dynamic_pointer_cast<torch::nn::Module>(half), stream);
  auto target = std::dynamic_pointer_cast<torch::nn::Module>(full);
  {
    const at::NoGradGuard no_grad;
    for (auto& parameter : full->parameters()) {
      parameter.zero_();
    }
  }
  torch::load(target, stream);
  EXPECT_TRUE(full->get_output_embeddings()->weight.is_same(full->get_input_embeddings()->weight));
  const auto expected = state_dict(*half);
  for (const auto& entry : state_dict(*full)) {
    EXPECT_TENSORS_EQUAL(entry.value(), expected[entry.key()].to(at::kFloat));
  }
}

TEST(TorchArchiveTest, AnArchiveOfAnotherModelIsNamed) {
  auto wide = tiny_llama();
  wide.intermediate_size += 2;
  std::stringstream stream;
  torch::save(std::dynamic_pointer_cast<torch::nn::Module>(tiny_model(wide)), stream);
  auto target = std::dynamic_pointer_cast<torch::nn::Module>(tiny_model(tiny_llama()));
  EXPECT_ERROR(torch::load(target, stream), "model.layers.0.mlp.gate_proj.weight", "shape");
}

}  // namespace
}  // namespace transformers::testing
