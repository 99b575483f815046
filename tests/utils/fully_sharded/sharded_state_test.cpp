#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/fully_sharded/sharded_state.h>
#include <transformers/utils/io/checkpoint.h>

#include <filesystem>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/own_rows.h"

namespace transformers {
namespace {

using testing::own_rows;
using testing::Rank;
using testing::run_on_ranks;
using testing::tiny_gptj;
using testing::tiny_llama;
using testing::tiny_model;

GPTJConfig tied_gptj() {
  auto config = tiny_gptj();
  config.tie_word_embeddings = true;
  return config;
}

void expect_equal_states(const StateDict& actual, const StateDict& expected) {
  EXPECT_EQ(actual.keys(), expected.keys());
  for (const auto& entry : expected) {
    EXPECT_TENSORS_EQUAL(actual[entry.key()], entry.value()) << entry.key();
  }
}

TEST(GatherStateDictTest, GivesOneRankOrAllTheShardedModelAsItWas) {
  run_on_ranks(4, [](const Rank& rank) {
    rank.join();
    const auto whole = tiny_model(tied_gptj()), module = tiny_model(tied_gptj());
    const FullyShardedDataParallel model(module, FullyShardedOptions{.ignored_parameters = {"transformer.ln_f.bias"}});
    const auto on_two = gather_state_dict(model, 2);
    if (rank.rank == 2) {
      expect_equal_states(on_two, state_dict(*whole));
    } else {
      EXPECT_TRUE(on_two.is_empty());
    }
    expect_equal_states(gather_state_dict(model, std::nullopt), state_dict(*whole));
    EXPECT_ERROR(gather_state_dict(model, 4), "dst must be in [0, 4), got 4");
    destroy_process_group();
  });
}

TEST(LoadStateDictTest, FillsTheRowsOfAShardedModelFromAWholeState) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto whole = tiny_model(tiny_llama()), module = tiny_model(tiny_llama());
    FullyShardedDataParallel model(module);
    for (auto& parameter : module->parameters()) {
      parameter.detach().zero_();
    }
    auto state = state_dict(*whole);
    load_state_dict(model, state);
    expect_equal_states(gather_state_dict(model, std::nullopt), state);
    state["model.norm.weight"] = torch::ones({3});
    EXPECT_ERROR(load_state_dict(model, state), "model.norm.weight", "[3]", "[24]");
    StateDict too_little;
    EXPECT_ERROR(load_state_dict(model, too_little), "missing", "model.norm.weight");
    destroy_process_group();
  });
}

void zero(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) {
    parameter.detach().zero_();
  }
}

TEST(CheckpointStateTest, HoldsIgnoredModulesWhole) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto whole = tiny_model(tiny_llama()), module = tiny_model(tiny_llama()), plain = tiny_model(tiny_llama());
    const FullyShardedDataParallel model(module, FullyShardedOptions{.ignored_modules = {"lm_head"}});
    EXPECT_EQ(checkpoint_state(model).at("model.lm_head.weight").local.size(0), 40);
    save_sharded_checkpoint(rank / "saved", group, checkpoint_state(model));
    save_pretrained(model, rank / "folder");
    zero(*module);
    zero(*plain);
    const ShardedCheckpoint checkpoint(rank / "saved", group);
    load_sharded_checkpoint(checkpoint, group, checkpoint_state(model));
    load_sharded_checkpoint(checkpoint, checkpoint_state(*plain));
    expect_equal_states(gather_state_dict(model, std::nullopt), state_dict(*whole));
    expect_equal_states(state_dict(*plain), state_dict(*whole));
    expect_equal_states(state_dict(*AutoModelForCausalLM::from_pretrained(rank / "folder")), state_dict(*whole));
    destroy_process_group();
  });
}

int64_t weight_files(const std::string& folder) {
  int64_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    count += entry.path().extension() == ".safetensors" ? 1 : 0;
  }
  return count;
}

void expect_saved_as_it_was(const PretrainedConfig& config, int64_t ranks, const SaveOptions& options,
                            int64_t expected_files) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    rank.join();
    const auto whole = tiny_model(config), module = tiny_model(config);
    module->generation_config.max_new_tokens = 7;
    const FullyShardedDataParallel model(module);
    for (int save = 0; save < 2; ++save) {  // the second over the first
      save_pretrained(model, rank / "saved", options);
      const auto again = AutoModelForCausalLM::from_pretrained(rank / "saved");
      expect_equal_states(state_dict(*again), state_dict(*whole));
      EXPECT_EQ(again->generation_config.max_new_tokens, 7);
      EXPECT_EQ(weight_files(rank / "saved"), expected_files);
      model.group().barrier();
    }
    destroy_process_group();
  });
}

TEST(SavePretrainedTest, OneProcessLoadsAShardedLlamaThatWasSavedAUnitAtATime) {
  expect_saved_as_it_was(tiny_llama(), 2, {}, 3);
}

TEST(SavePretrainedTest, OneProcessLoadsATiedShardedGptjInSmallFiles) {
  // A block: norm, keys, values; queries, output; the MLP. One file for embeddings, last norm and the head's bias.
  expect_saved_as_it_was(tied_gptj(), 4, {.max_shard_size = 5000}, 2 * 3 + 1);
}

TEST(SavePretrainedTest, EveryRankIsToldWhenAShardedModelCannotBeWritten) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const FullyShardedDataParallel model(tiny_model(tiny_llama()));
    EXPECT_ERROR(save_pretrained(model, rank / "no" + "/such/folder"), "rank " + std::to_string(rank.rank) + " of 2",
                 "cannot be created");
    EXPECT_ERROR(save_pretrained(model, rank / "saved", {.max_shard_size = 0}), "max_shard_size");
    const FullyShardedDataParallel layer(std::make_shared<LinearImpl>(2, 2));
    EXPECT_ERROR(save_pretrained(layer, rank / "saved"), "PreTrainedModel");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
