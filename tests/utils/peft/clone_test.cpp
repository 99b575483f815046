#include <ATen/ATen.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/pruning/prune.h>
#include <transformers/utils/quantization/weight_only.h>
#include <transformers/utils/training/neftune.h>

#include <unordered_set>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

// A clone is what `copy.deepcopy` makes in Python: what happens to the original afterwards does not reach it.

at::Tensor logits_of(CausalLM& model) {
  const at::NoGradGuard no_grad;
  return model.forward({.input_ids = tiny_ids(2, 6), .use_cache = false}).logits;
}

std::shared_ptr<CausalLM> clone_of(const CausalLM& model) { return std::dynamic_pointer_cast<CausalLM>(model.clone()); }

LoraConfig wild(LoraConfig config = {}) {
  config.init_lora_weights = LoraInit::kRandom;
  return config;
}

/// No memory of a parameter or buffer of one module is the other's.
void expect_nothing_shared(const torch::nn::Module& first, const torch::nn::Module& second) {
  std::unordered_set<const void*> memory;
  for (const auto& parameter : first.parameters()) {
    memory.insert(parameter.storage().unsafeGetStorageImpl());
  }
  for (const auto& buffer : first.buffers()) {
    memory.insert(buffer.storage().unsafeGetStorageImpl());
  }
  for (const auto& parameter : second.named_parameters()) {
    EXPECT_FALSE(memory.contains(parameter.value().storage().unsafeGetStorageImpl())) << parameter.key();
  }
  for (const auto& buffer : second.named_buffers()) {
    EXPECT_FALSE(memory.contains(buffer.value().storage().unsafeGetStorageImpl())) << buffer.key();
  }
}

TEST(CloneTest, AnAdaptedModelKeepsItsAdaptersWhateverTheOriginalDoes) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  adapters->add_adapter("default", wild());
  adapters->eval();
  const auto adapted = logits_of(*model);
  const auto copy = clone_of(*model);
  EXPECT_TENSORS_EQUAL(logits_of(*copy), adapted);
  adapters->merge_adapter();
  EXPECT_TENSORS_EQUAL(logits_of(*copy), adapted);
  adapters->unmerge_adapter();
  adapters->enable_adapters(false);
  EXPECT_TENSORS_EQUAL(logits_of(*copy), adapted);
  adapters->unload();
  EXPECT_TENSORS_EQUAL(logits_of(*copy), adapted);
}

TEST(CloneTest, AMergedModelStaysMerged) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  adapters->add_adapter("default", wild());
  adapters->eval();
  adapters->merge_adapter();
  const auto merged = logits_of(*model);
  const auto copy = clone_of(*model);
  adapters->unmerge_adapter();
  EXPECT_TENSORS_EQUAL(logits_of(*copy), merged);
}

TEST(CloneTest, APeftModelIsCopiedWithAllItManages) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  adapters->add_adapter("first", wild({.r = 2, .modules_to_save = {"lm_head"}}));
  adapters->add_adapter("second", wild({.r = 3, .use_dora = true}));
  adapters->eval();
  const auto first = logits_of(*model);

  const auto copy = std::dynamic_pointer_cast<PeftModelImpl>(adapters->clone());
  ASSERT_NE(copy, nullptr);
  expect_nothing_shared(*adapters, *copy);
  auto& copied = dynamic_cast<CausalLM&>(*copy->base_model());
  EXPECT_TENSORS_EQUAL(logits_of(copied), first);
  EXPECT_EQ(copy->adapter_names(), adapters->adapter_names());
  EXPECT_EQ(trainable_parameters(*copy).size(), trainable_parameters(*adapters).size());

  adapters->set_adapter({"second"});
  const auto second = logits_of(*model);
  EXPECT_TENSORS_EQUAL(logits_of(copied), first);
  copy->set_adapter({"second"});
  EXPECT_TENSORS_EQUAL(logits_of(copied), second);
  adapters->merge_and_unload();
  EXPECT_TENSORS_EQUAL(logits_of(copied), second);
  copy->set_adapter({"first"});
  EXPECT_TENSORS_EQUAL(logits_of(copied), first);
  copy->merge_and_unload();
  EXPECT_TENSORS_CLOSE(logits_of(copied), first);
}

TEST(CloneTest, APeftModelIsCopiedMergedAndLearnsByItself) {
  const auto model = tiny_model(tiny_llama());
  PeftModel adapters(model);
  adapters->add_adapter("default", wild());
  adapters->eval();
  const auto base_and_adapter = logits_of(*model);
  adapters->merge_adapter();
  const auto copy = std::dynamic_pointer_cast<PeftModelImpl>(adapters->clone());
  auto& copied = dynamic_cast<CausalLM&>(*copy->base_model());
  EXPECT_TRUE(copy->merged());
  copy->unmerge_adapter();
  EXPECT_TENSORS_CLOSE(logits_of(copied), base_and_adapter);

  const auto before = adapters->get_peft_model_state_dict()[adapters->get_peft_model_state_dict().keys()[0]].clone();
  const auto ids = tiny_ids(2, 6);
  copied.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
  for (auto& parameter : trainable_parameters(*copy)) {
    ASSERT_TRUE(parameter.grad().defined());
  }
  for (const auto& parameter : trainable_parameters(*adapters)) {
    EXPECT_FALSE(parameter.grad().defined());
  }
  EXPECT_TENSORS_EQUAL(adapters->get_peft_model_state_dict()[adapters->get_peft_model_state_dict().keys()[0]], before);
}

TEST(CloneTest, AHeadThatAnAdapterUntiedComesBackInTheCopyToo) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  PeftModel adapters(model);
  adapters->add_adapter("default", wild({.modules_to_save = {"lm_head"}}));
  const auto copy = std::dynamic_pointer_cast<PeftModelImpl>(adapters->clone());
  auto& copied = dynamic_cast<CausalLM&>(*copy->base_model());
  copy->unload();
  EXPECT_TRUE(copied.get_output_embeddings()->weight.is_same(copied.get_input_embeddings()->weight));
  EXPECT_FALSE(model->get_output_embeddings()->weight.is_same(model->get_input_embeddings()->weight));
}

TEST(CloneTest, QuantisedAndPackedLayersMultiplyAsTheOriginals) {
  const auto model = tiny_model(tiny_llama());
  const auto quantised = tiny_model(tiny_llama());
  quantize(quantised->base_model());
  const auto rounded = logits_of(*quantised);
  const auto copy = clone_of(*quantised);
  dequantize(quantised->base_model());
  EXPECT_TENSORS_EQUAL(logits_of(*copy), rounded);

  Linear layer(8, 4);
  if (PackedLinear::supports(layer->weight)) {
    layer->set_method(std::make_shared<PackedLinear>(layer->weight));
    const auto packed = std::dynamic_pointer_cast<LinearImpl>(layer->clone());
    EXPECT_NE(dynamic_cast<const PackedLinear*>(packed->method().get()), nullptr);
    EXPECT_NE(packed->method(), layer->method());
  }
}

TEST(CloneTest, MasksStayOnTheCopyAndAreItsOwn) {
  const auto model = tiny_model(tiny_llama());
  auto& projection = *std::dynamic_pointer_cast<LlamaForCausalLMImpl>(model)
                          ->model->layers->ptr<LlamaDecoderLayerImpl>(0)
                          ->self_attn->q_proj;
  prune::l1_unstructured(projection, "weight", 0.5);
  const auto copy = clone_of(*model);
  auto& copied = *std::dynamic_pointer_cast<LlamaForCausalLMImpl>(copy)
                      ->model->layers->ptr<LlamaDecoderLayerImpl>(0)
                      ->self_attn->q_proj;
  EXPECT_TRUE(prune::is_pruned(*copy));
  EXPECT_TENSORS_EQUAL(logits_of(*copy), logits_of(*model));
  expect_nothing_shared(*model, *copy);

  const auto mask = copied.named_buffers()["weight_mask"];
  (copied.weight * 2).sum().backward();
  EXPECT_TENSORS_EQUAL(copied.weight.grad(), mask * 2);
  prune::l1_unstructured(copied, "weight", 0.5);  // half of what is left
  EXPECT_EQ(projection.named_buffers()["weight_mask"].sum().item<double>(), projection.weight.numel() / 2);

  const auto alone = std::dynamic_pointer_cast<LinearImpl>(projection.clone());
  EXPECT_TRUE(prune::is_pruned(*alone));
}

TEST(CloneTest, HooksComeAlongButForThoseOfAnObserver) {
  const auto model = tiny_model(tiny_gptj());
  int calls = 0;
  model->get_input_embeddings()->register_forward_hook([&calls](const at::Tensor&, const at::Tensor&) {
    ++calls;
    return at::Tensor();
  });
  model->enable_input_require_grads();
  const NeftuneNoise noise(*model, 5);
  const auto copy = clone_of(*model);
  copy->train();
  copy->forward({.input_ids = tiny_ids(1, 4), .use_cache = false});
  EXPECT_EQ(calls, 1);
  copy->get_input_embeddings()->weight.set_requires_grad(false);
  EXPECT_TRUE(copy->get_input_embeddings()(tiny_ids(1, 4)).requires_grad());
  copy->disable_input_require_grads();
  EXPECT_FALSE(copy->get_input_embeddings()(tiny_ids(1, 4)).requires_grad());
  EXPECT_TENSORS_EQUAL(copy->get_input_embeddings()(tiny_ids(1, 4)), copy->get_input_embeddings()(tiny_ids(1, 4)));
}

TEST(CloneTest, FrozenParametersCheckpointingAndModesAreKept) {
  const auto model = tiny_model(tiny_llama());
  model->gradient_checkpointing_enable(2);
  model->train();
  model->get_output_embeddings()->eval();
  for (auto& entry : model->named_parameters()) {
    entry.value().requires_grad_(entry.key().find("q_proj") != std::string::npos);
  }
  const auto copy = clone_of(*model);
  EXPECT_TRUE(copy->is_gradient_checkpointing());
  EXPECT_TRUE(copy->is_training());
  EXPECT_FALSE(copy->get_output_embeddings()->is_training());
  for (const auto& entry : copy->named_parameters()) {
    EXPECT_EQ(entry.value().requires_grad(), entry.key().find("q_proj") != std::string::npos) << entry.key();
  }
}

TEST(CloneTest, AModelSpreadByParallelizeIsCopiedAsItLies) {
  const auto model = std::dynamic_pointer_cast<GPTJForCausalLMImpl>(tiny_model(tiny_gptj()));
  model->parallelize({{c10::Device(at::kCPU), {0, 1}}});
  const auto copy = std::dynamic_pointer_cast<GPTJForCausalLMImpl>(model->clone());
  EXPECT_EQ(copy->transformer->device_map(), model->transformer->device_map());
  EXPECT_TENSORS_EQUAL(logits_of(*copy), logits_of(*model));
  copy->deparallelize();
  EXPECT_FALSE(model->transformer->device_map().empty());
  EXPECT_ERROR(model->clone(torch::Device(at::kCPU)), "clone", "several devices");
}

/// As torch::nn::Cloneable: another module of the class with the same values and nothing in common.
template <typename Block>
std::shared_ptr<Block> expect_independent(const Block& block) {
  const auto copy = std::dynamic_pointer_cast<Block>(block.clone());
  EXPECT_NE(copy, nullptr);
  expect_nothing_shared(block, *copy);
  const auto expected = block.named_parameters();
  for (const auto& entry : copy->named_parameters()) {
    EXPECT_TENSORS_EQUAL(entry.value(), expected[entry.key()]);
  }
  EXPECT_EQ(copy->named_parameters().size(), expected.size());
  return copy;
}

TEST(CloneTest, BlocksAndTheirPartsCanBeCopied) {
  const auto llama = std::dynamic_pointer_cast<LlamaForCausalLMImpl>(tiny_model(tiny_llama()));
  const auto layer = expect_independent(*llama->model->layers->ptr<LlamaDecoderLayerImpl>(0));
  const auto hidden = at::rand({2, 3, llama->config().hidden_size});
  const auto mlp = expect_independent(*layer->mlp);
  EXPECT_TENSORS_EQUAL(mlp->forward(hidden), layer->mlp->forward(hidden));
  expect_independent(*layer->self_attn);
  expect_independent(*layer->input_layernorm);
  expect_independent(*llama->model->rotary_emb);
  // The fields are the copy's own, not only its registered names.
  EXPECT_TRUE(layer->mlp->gate_proj->weight.is_same(layer->named_parameters()["mlp.gate_proj.weight"]));
  EXPECT_TRUE(mlp->down_proj->weight.is_same(mlp->named_parameters()["down_proj.weight"]));

  const auto gptj = std::dynamic_pointer_cast<GPTJForCausalLMImpl>(tiny_model(tiny_gptj()));
  const auto block = expect_independent(*gptj->transformer->h->ptr<GPTJBlockImpl>(1));
  expect_independent(*block->attn);
  expect_independent(*block->mlp);
  expect_independent(*block->ln_1);
  expect_independent(*ActivationFunction(Activation::kXielu));
}

}  // namespace
}  // namespace transformers::testing
