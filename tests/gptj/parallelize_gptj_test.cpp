#include <torch/torch.h>
#include <transformers/gptj/modeling_gptj.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

GPTJConfig four_blocks() {
  auto config = tiny_gptj();
  config.n_layer = 4;
  return config;
}

GPTJForCausalLM model_of_four() {
  torch::manual_seed(3);
  GPTJForCausalLM model(four_blocks());
  model->eval();
  return model;
}

// Moves show on any two devices. Tensors of the second one, meta, have shapes and no values: LibTorch's layers do not
// all run there, so a forward ends where it would compute with them. Whole forwards: tests/cuda.
const c10::Device kFirst = c10::kCPU, kSecond = c10::kMeta;

struct Arrived {};

TEST(GPTJParallelizeTest, HiddenStatesMoveAtTheFirstBlockOfEachDevice) {
  auto model = model_of_four()->transformer;
  model->parallelize({{kFirst, {0, 1}}, {kSecond, {2, 3}}});
  std::vector<c10::Device> found;
  for (size_t i = 0; i < 4; ++i) {
    model->h->ptr<GPTJBlockImpl>(i)->register_forward_pre_hook([&](const at::Tensor& hidden_states) -> at::Tensor {
      found.push_back(hidden_states.device());
      if (hidden_states.device() == kSecond) {
        throw Arrived();
      }
      return {};
    });
  }
  EXPECT_THROW(model->forward({.input_ids = tiny_ids(2, 5), .head_mask = torch::ones({3})}), Arrived);
  EXPECT_EQ(found, (std::vector<c10::Device>{kFirst, kFirst, kSecond}));
}

TEST(GPTJLayerInputsTest, MoveToTakesAlongWhatABlockNeeds) {
  GPTJLayerInputs inputs{.attention_mask = torch::ones({1, 1, 2, 2}),
                         .position_embeddings = {.cos = torch::ones({1, 2, 4}), .sin = torch::ones({1, 2, 4})},
                         .head_masks = {torch::ones({1, 3, 1, 1}), torch::ones({1, 3, 1, 1})}};
  inputs.move_to(kSecond);
  for (const auto& tensor : {inputs.attention_mask, inputs.position_embeddings.cos, inputs.position_embeddings.sin,
                             inputs.head_masks[0], inputs.head_masks[1]}) {
    EXPECT_EQ(tensor.device(), kSecond);
  }
}

TEST(GPTJLayerInputsTest, MoveToLeavesWhatIsThereAsItIs) {
  const auto cos = torch::ones({1, 2, 4});
  GPTJLayerInputs inputs{.position_embeddings = {.cos = cos, .sin = torch::ones({1, 2, 4})}};
  inputs.move_to(kFirst);
  EXPECT_TRUE(inputs.position_embeddings.cos.is_same(cos));
  EXPECT_FALSE(inputs.attention_mask.defined());
}

TEST(GPTJParallelizeTest, EmbeddingsGoToTheFirstDeviceAndTheNormToTheLast) {
  auto model = model_of_four();
  model->parallelize({{kSecond, {1, 2, 3}}, {kFirst, {0}}});
  EXPECT_EQ(model->transformer->first_device(), kFirst);
  EXPECT_EQ(model->transformer->last_device(), kSecond);
  EXPECT_EQ(model->transformer->wte->weight.device(), kFirst);
  EXPECT_EQ(model->lm_head->weight.device(), kFirst);
  EXPECT_EQ(model->transformer->ln_f->weight.device(), kSecond);
  EXPECT_EQ(model->transformer->h->ptr<GPTJBlockImpl>(0)->ln_1->weight.device(), kFirst);
  EXPECT_EQ(model->transformer->h->ptr<GPTJBlockImpl>(1)->ln_1->weight.device(), kSecond);
}

TEST(GPTJParallelizeTest, OneDeviceGivesTheSameNumbersUntilItIsTakenBack) {
  auto model = model_of_four();
  const auto ids = tiny_ids(2, 5);
  const auto expected = model->forward({.input_ids = ids}).logits;
  model->parallelize({{kFirst, {2, 3, 0, 1}}});
  EXPECT_EQ(model->transformer->device_map().size(), 1U);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids}).logits, expected);
  EXPECT_ERROR(model->transformer->to(c10::kCPU), "neither moved nor cast");
  EXPECT_ERROR(model->to(c10::kCPU), "neither moved nor cast") << "its blocks would be where nobody looks for them";
  model->deparallelize();
  EXPECT_TRUE(model->transformer->device_map().empty());
  EXPECT_FALSE(model->lm_head->has_forward_hooks());
  model->to(c10::kCPU);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids}).logits, expected);
}

TEST(GPTJParallelizeTest, RefusesMapsThatDoNotFitAndChangesNothing) {
  auto model = model_of_four();
  EXPECT_ERROR(model->parallelize({{kFirst, {0, 1, 2}}}), "have no device", "[3]");
  EXPECT_ERROR(model->parallelize({{kFirst, {0, 1, 2, 3, 3}}}), "more than once", "[3]");
  EXPECT_ERROR(model->parallelize({{kFirst, {0, 1, 2, 3, 4}}}), "4 blocks", "[4]");
  EXPECT_ERROR(model->parallelize({{kFirst, {0, 1}}, {c10::Device("cuda:99"), {2, 3}}}), "cuda:99");
  EXPECT_TRUE(model->transformer->device_map().empty());
  EXPECT_FALSE(model->transformer->wte->has_forward_hooks());
}

}  // namespace
}  // namespace transformers::testing
