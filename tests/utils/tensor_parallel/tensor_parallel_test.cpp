#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/nn/packed_linear.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/tensor_parallel/slices.h"

namespace transformers {
namespace {

using testing::own_slice;
using testing::Rank;
using testing::run_on_ranks;
using testing::tensors_close_to_largest;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

constexpr double kOfTheLargest = 1e-5;

GPTJConfig gptj_with_four_heads() {
  auto config = tiny_gptj();
  config.n_head = 4;
  return config;
}

/// The largest gradient in a weight and its bias: key biases all but cancel out in the softmax, and the rounding of
/// what cancels is that of the weight's gradient.
double largest_gradient_beside(const CausalLM& model, const std::string& name) {
  const auto layer = name.substr(0, name.rfind('.') + 1);
  double largest = 0;
  for (const auto& parameter : model.named_parameters()) {
    if (parameter.key().starts_with(layer)) {
      largest = std::max(largest, parameter->grad().abs().max().item<double>());
    }
  }
  return largest;
}

void expect_equal_gradients(const CausalLM& model, const CausalLM& alone, const TensorParallel& parallel) {
  const auto parameters = model.named_parameters();
  for (const auto& parameter : alone.named_parameters()) {
    const auto largest = largest_gradient_beside(alone, parameter.key());
    EXPECT_TENSORS_CLOSE(parameters[parameter.key()].grad(),
                         own_slice(parameter->grad(), parameter.key(), parallel).contiguous(),
                         {.relative = 0, .absolute = kOfTheLargest * largest})
        << parameter.key();
  }
}

/// Two steps of training; the rank's model and the one that is whole.
void expect_equal_training(CausalLM& model, CausalLM& alone, const TensorParallel& parallel,
                           const CausalLMOptions& options) {
  torch::optim::SGD steps(model.parameters(), 0.05), alone_steps(alone.parameters(), 0.05);
  for (int step = 0; step < 2; ++step) {
    steps.zero_grad();
    alone_steps.zero_grad();
    const ModelInputs inputs{.input_ids = options.labels, .use_cache = false};
    const auto output = model.forward(inputs, options), expected = alone.forward(inputs, options);
    EXPECT_TRUE(tensors_close_to_largest(output.loss.detach(), expected.loss.detach(), kOfTheLargest));
    output.loss.backward();
    expected.loss.backward();
    expect_equal_gradients(model, alone, parallel);
    steps.step();
    alone_steps.step();
  }
}

void expect_equal_generation(CausalLM& model, CausalLM& alone) {
  GenerationConfig greedy;
  greedy.max_new_tokens = 9;
  greedy.eos_token_id = {};
  const auto ids = tiny_ids(2, 5);
  EXPECT_TENSORS_EQUAL(generate(model, {.input_ids = ids}, greedy).sequences,
                       generate(alone, {.input_ids = ids}, greedy).sequences);
}

struct Variant {
  int64_t loss_chunk_rows = 0;
  bool gradient_checkpointing = false;
};

void expect_equal_to_one_process(const PretrainedConfig& config, const Rank& rank, const Variant& variant) {
  const auto alone = tiny_model(config), model = tiny_model(config);
  const auto parallel = tensor_parallelize(*model, rank.join());
  const auto ids = tiny_ids(2, 7);
  EXPECT_TRUE(tensors_close_to_largest(model->forward({.input_ids = ids}).logits.detach(),
                                       alone->forward({.input_ids = ids}).logits.detach(), kOfTheLargest));
  expect_equal_generation(*model, *alone);
  model->train();
  alone->train();
  if (variant.gradient_checkpointing) {
    model->gradient_checkpointing_enable();
  }
  expect_equal_training(*model, *alone, parallel, {.labels = ids, .loss_chunk_rows = variant.loss_chunk_rows});
  destroy_process_group();
}

void expect_equal_on_ranks(int64_t ranks, const PretrainedConfig& config, const Variant& variant = {}) {
  run_on_ranks(ranks, [&](const Rank& rank) { expect_equal_to_one_process(config, rank, variant); });
}

TEST(TensorParallelTest, LlamaOnTwoRanksEqualsOneProcess) { expect_equal_on_ranks(2, tiny_llama()); }

TEST(TensorParallelTest, LlamaOnFourRanksThatShareKeysEqualsOneProcess) { expect_equal_on_ranks(4, tiny_llama()); }

TEST(TensorParallelTest, LlamaWithBiasesOnRanksThatShareOneKeyEqualsOneProcess) {
  auto config = tiny_llama();
  config.num_key_value_heads = 1;
  config.attention_bias = config.mlp_bias = true;
  expect_equal_on_ranks(4, config);
}

TEST(TensorParallelTest, LlamaWithTiedEmbeddingsAndAnUnevenVocabularyEqualsOneProcess) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  config.vocab_size = 43;
  expect_equal_on_ranks(4, config);
}

TEST(TensorParallelTest, LlamaWithALossThatGathersNoLogitsEqualsOneProcess) {
  expect_equal_on_ranks(2, tiny_llama(), {.loss_chunk_rows = 3});
}

TEST(TensorParallelTest, LlamaWithCheckpointedLayersEqualsOneProcess) {
  expect_equal_on_ranks(2, tiny_llama(), {.loss_chunk_rows = 5, .gradient_checkpointing = true});
}

TEST(TensorParallelTest, LlamaWithProductsInSlicesEqualsOneProcess) {
  auto config = tiny_llama();
  config.pretraining_tp = 2;
  expect_equal_on_ranks(2, config);
}

TEST(TensorParallelTest, GPTJOnTwoRanksEqualsOneProcess) { expect_equal_on_ranks(2, gptj_with_four_heads()); }

TEST(TensorParallelTest, GPTJOnFourRanksEqualsOneProcess) {
  expect_equal_on_ranks(4, gptj_with_four_heads(), {.loss_chunk_rows = 4});
}

TEST(TensorParallelTest, PrunedHeadsAreSplitAsTheyAreLeft) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto alone = tiny_model(tiny_llama()), model = tiny_model(tiny_llama());
    alone->prune_heads({{1, {0, 2}}});
    model->prune_heads({{1, {0, 2}}});
    tensor_parallelize(*model, rank.join());
    const auto ids = tiny_ids(2, 7);
    EXPECT_TRUE(tensors_close_to_largest(model->forward({.input_ids = ids}).logits.detach(),
                                         alone->forward({.input_ids = ids}).logits.detach(), kOfTheLargest));
    destroy_process_group();
  });
}

TEST(TensorParallelTest, ClassifiersKeepTheirHeadWhole) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto fresh = [] {
      torch::manual_seed(3);
      LlamaForTokenClassification model(tiny_llama());
      model->eval();
      return model;
    };
    auto alone = fresh(), model = fresh();
    const auto parallel = tensor_parallelize(*model, rank.join());
    EXPECT_FALSE(parallel.slices.contains("score.weight"));
    const auto ids = tiny_ids(2, 7);
    EXPECT_TRUE(tensors_close_to_largest(model->forward({.input_ids = ids}).logits.detach(),
                                         alone->forward({.input_ids = ids}).logits.detach(), kOfTheLargest));
    destroy_process_group();
  });
}

TEST(TensorParallelTest, ParametersHoldTheRanksSliceAloneAndKeepWhetherTheyTrain) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto whole = tiny_model(tiny_llama()), model = tiny_model(tiny_llama());
    model->named_parameters()["model.layers.0.mlp.up_proj.weight"].set_requires_grad(false);
    const auto parallel = tensor_parallelize(*model, rank.join());
    const auto expected = state_dict(*whole);
    for (const auto& entry : model->named_parameters()) {
      const auto slice = own_slice(expected[entry.key()], entry.key(), parallel);
      EXPECT_TENSORS_EQUAL(entry->detach(), slice.contiguous()) << entry.key();
      EXPECT_EQ(entry->storage().nbytes(), static_cast<size_t>(slice.numel()) * sizeof(float)) << entry.key();
      EXPECT_EQ(entry->requires_grad(), entry.key() != "model.layers.0.mlp.up_proj.weight") << entry.key();
    }
    EXPECT_FALSE(parallel.slices.contains("model.norm.weight"));
    EXPECT_EQ(parallel.slices.at("model.layers.0.mlp.down_proj.weight").dim, 1);
    destroy_process_group();
  });
}

TEST(TensorParallelTest, WhatStaysWholeGetsTheValuesOfRankZero) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(tiny_llama());
    const auto norm = model->named_parameters()["model.norm.weight"];
    norm.detach().fill_(5.0 + static_cast<double>(rank.rank));
    tensor_parallelize(*model, rank.join());
    EXPECT_TENSORS_EQUAL(model->named_parameters()["model.norm.weight"].detach(), torch::full({24}, 5.0));
    destroy_process_group();
  });
}

void expect_equal_clipping(const LlamaConfig& config) {
  run_on_ranks(4, [&](const Rank& rank) {
    const auto alone = tiny_model(config), model = tiny_model(config);
    const auto parallel = tensor_parallelize(*model, rank.join());
    const auto ids = tiny_ids(2, 7);
    for (const auto& each : {alone, model}) {
      each->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss.backward();
    }
    auto parameters = alone->parameters();
    const auto expected = torch::nn::utils::clip_grad_norm_(parameters, 0.5);
    ASSERT_GT(expected, 0.5);
    EXPECT_NEAR(clip_grad_norm_(*model, parallel, 0).item<double>(), expected, kOfTheLargest * expected);  // measures
    EXPECT_NEAR(clip_grad_norm_(*model, parallel, 0.5).item<double>(), expected, kOfTheLargest * expected);
    expect_equal_gradients(*model, *alone, parallel);
    EXPECT_NEAR(clip_grad_norm_(*model, parallel, 100).item<double>(), 0.5, kOfTheLargest);
    expect_equal_gradients(*model, *alone, parallel);
    destroy_process_group();
  });
}

TEST(TensorParallelTest, ClipsByTheNormOfOneProcessThoughRanksShareKeys) { expect_equal_clipping(tiny_llama()); }

TEST(TensorParallelTest, AFrozenModelStillGivesItsOutputs) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto alone = tiny_model(tiny_llama()), model = tiny_model(tiny_llama());
    tensor_parallelize(*model, rank.join());
    for (auto& parameter : model->parameters()) {
      parameter.set_requires_grad(false);
    }
    const auto ids = tiny_ids(2, 7);
    const auto output = model->forward({.input_ids = ids}, {.labels = ids, .loss_chunk_rows = 4});
    EXPECT_FALSE(output.loss.requires_grad());
    EXPECT_TRUE(tensors_close_to_largest(output.loss, alone->forward({.input_ids = ids}, {.labels = ids}).loss.detach(),
                                         kOfTheLargest));
    destroy_process_group();
  });
}

TEST(TensorParallelTest, InBfloat16LogitsDifferByRoundingOnly) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto alone = tiny_model(tiny_llama(), at::kBFloat16), model = tiny_model(tiny_llama(), at::kBFloat16);
    tensor_parallelize(*model, rank.join());
    const auto ids = tiny_ids(2, 7);
    constexpr double kFewRoundings = 3e-2;  // the project's for bfloat16
    EXPECT_TRUE(tensors_close_to_largest(model->forward({.input_ids = ids}).logits.detach(),
                                         alone->forward({.input_ids = ids}).logits.detach(), kFewRoundings));
    destroy_process_group();
  });
}

TEST(TensorParallelTest, SamplingWithOneSeedGivesAllRanksTheSameText) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    tensor_parallelize(*model, group);
    GenerationConfig sampling;
    sampling.max_new_tokens = 9;
    sampling.do_sample = true;
    torch::manual_seed(5);
    const auto sequences = generate(*model, {.input_ids = tiny_ids(2, 5)}, sampling).sequences.contiguous();
    const auto all = torch::empty({2, sequences.numel()}, torch::kLong);
    group.all_gather_into_tensor(all, sequences).wait();
    EXPECT_TENSORS_EQUAL(all[0], all[1]);
    destroy_process_group();
  });
}

TEST(TensorParallelTest, TrainingEndsWhenARankDies) {
  constexpr int kDied = 9;
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto model = tiny_model(tiny_llama());
                 tensor_parallelize(*model, rank.join());
                 const auto ids = tiny_ids(2, 7);
                 const auto loss = model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
                 if (rank.rank == 1) {
                   std::_Exit(kDied);
                 }
                 EXPECT_ERROR(loss.backward(), "rank 0 of 2", "all_reduce");
               },
               {.expected_status = {{1, kDied}}});
}

TEST(TensorParallelTest, RanksWithBatchesOfDifferentShapeAreTold) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(tiny_llama());
    tensor_parallelize(*model, rank.join());
    EXPECT_ERROR(model->forward({.input_ids = tiny_ids(2, 7 + rank.rank)}), "of 2: ranks disagree", "all_reduce sum");
  });
}

void expect_refused(int64_t ranks, const PretrainedConfig& config, const std::string& fragment) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(config), untouched = tiny_model(config);
    EXPECT_ERROR(tensor_parallelize(*model, group), fragment);
    const auto expected = state_dict(*untouched);
    for (const auto& entry : state_dict(*model)) {
      EXPECT_TENSORS_EQUAL(entry.value(), expected[entry.key()]) << entry.key();
    }
    destroy_process_group();
  });
}

TEST(TensorParallelTest, RefusesHeadsThatTheRanksDoNotDivide) {
  expect_refused(2, tiny_gptj(), "tensor_parallelize: layer 0: 3 attention heads cannot be split evenly over 2 ranks");
}

TEST(TensorParallelTest, RefusesKeysThatNeitherDivideNorAreDivided) {
  auto config = tiny_llama();
  config.num_attention_heads = 12;
  config.num_key_value_heads = 3;
  expect_refused(4, config, "layer 0: 3 key/value heads cannot be split evenly over 4 ranks");
}

TEST(TensorParallelTest, RefusesChannelsThatTheRanksDoNotDivide) {
  auto config = tiny_llama();
  config.intermediate_size = 21;
  expect_refused(2, config, "layer 0: 21 MLP channels cannot be split evenly over 2 ranks");
}

TEST(TensorParallelTest, RefusesFewerTokensThanRanks) {
  auto config = tiny_llama();
  config.vocab_size = 3;
  expect_refused(4, config, "a vocabulary of 3 tokens cannot be split over 4 ranks");
}

TEST(TensorParallelTest, RefusesAModelThatIsSplitAlready) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    tensor_parallelize(*model, group);
    EXPECT_ERROR(tensor_parallelize(*model, group), "q_proj has its own linear method", "split already");
    destroy_process_group();
  });
}

TEST(TensorParallelTest, RefusesOnAllRanksWhatOneCannotSplit) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    if (rank.rank == 1) {
      auto head = model->get_output_embeddings();
      head->set_method(std::make_shared<PackedLinear>(head->weight));
    }
    EXPECT_ERROR(tensor_parallelize(*model, group), "lm_head has its own linear method");
    destroy_process_group();
  });
}

TEST(TensorParallelTest, RefusesOnAllRanksModelsOfDifferentShape) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    auto config = tiny_llama();
    config.intermediate_size = rank.rank == 0 ? 20 : 24;
    const auto model = tiny_model(config);
    EXPECT_ERROR(tensor_parallelize(*model, group), "gate_proj.weight", "on rank 1");
    destroy_process_group();
  });
}

TEST(TensorParallelTest, RanksThatHoldTheSameHeadTakeOneRanksValues) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto group = rank.join();
    const auto model = tiny_model(tiny_llama());
    const auto key = model->structure().layers[0].key;
    const torch::NoGradGuard no_grad;
    key->weight.fill_(rank.rank);
    const auto parallel = tensor_parallelize(*model, group);
    const auto& parts = parallel.slices.at("model.layers.0.self_attn.k_proj.weight").parts;
    ASSERT_EQ(parts[0].start, parts[1].start);
    ASSERT_EQ(parts[2].start, parts[3].start);
    EXPECT_TENSORS_EQUAL(key->weight.detach(), torch::full_like(key->weight, rank.rank / 2 * 2));
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
