#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/pipeline/schedules.h>

#include <filesystem>

#include "support/mapped_memory.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::mapped_memory;
using testing::Rank;
using testing::read_file;
using testing::run_on_ranks;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

/// A folder of the test that rank 0 fills before the others go on.
std::string saved_folder(const PretrainedConfig& config, const Rank& rank, const ProcessGroup& group) {
  const auto folder = rank / "model";
  if (rank.rank == 0) {
    tiny_model(config)->save_pretrained(folder);
  }
  group.barrier();
  return folder;
}

LlamaConfig tied_llama() {
  auto config = tiny_llama();
  config.num_hidden_layers = 3;
  config.tie_word_embeddings = true;
  return config;
}

void expect_read_and_written_as_it_was(const PretrainedConfig& config, int64_t ranks) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(config, rank, group);
    const auto stage = load_pipeline_stage<AutoModelForCausalLM>(folder, group);
    const auto whole = AutoModelForCausalLM::from_pretrained(folder);
    const auto ids = tiny_ids(2, 6);
    EXPECT_TENSORS_CLOSE(Schedule1F1B(stage, 2).eval({.input_ids = ids}, {.labels = ids}),
                         whole->forward({.input_ids = ids}, {.labels = ids}).loss.detach());
    save_pretrained(stage, rank / "again");
    if (rank.rank == 0) {
      for (const auto* name : {"model.safetensors", "config.json", "generation_config.json"}) {
        EXPECT_EQ(read_file(rank / "again/" + name), read_file(folder + "/" + name)) << name;
      }
    }
    const auto state = gather_state_dict(stage, ranks - 1);
    EXPECT_EQ(state.is_empty(), rank.rank + 1 != ranks);
    for (const auto& entry : state) {
      EXPECT_TENSORS_EQUAL(entry.value(), state_dict(*whole)[entry.key()]) << entry.key();
    }
    EXPECT_ERROR(gather_state_dict(stage, ranks), "dst must be in [0, ");
    destroy_process_group();
  });
}

TEST(LoadPipelineStageTest, AllStagesTogetherAreTheLlamaOfTheFolder) {
  expect_read_and_written_as_it_was(tied_llama(), 3);
}

TEST(LoadPipelineStageTest, AllStagesTogetherAreTheGPTJOfTheFolder) {
  expect_read_and_written_as_it_was(tiny_gptj(), 2);
}

TEST(LoadPipelineStageTest, ConvertsItsPartToTheDtypeAskedFor) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(tiny_llama(), rank, group);
    const auto stage = load_pipeline_stage<LlamaForCausalLM>(folder, group, {.dtype = at::kDouble});
    auto whole = LlamaForCausalLM::from_pretrained(folder, {.dtype = at::kDouble});
    const auto ids = tiny_ids(2, 6);
    EXPECT_TENSORS_CLOSE(Schedule1F1B(stage, 1).eval({.input_ids = ids}, {.labels = ids}),
                         whole->forward({.input_ids = ids}, {.labels = ids}).loss.detach());
    destroy_process_group();
  });
}

TEST(LoadPipelineStageTest, WhenOneRankCannotReadAllThrow) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(tiny_llama(), rank, group);
    const auto load = [&] { load_pipeline_stage<LlamaForCausalLM>(rank.rank == 0 ? folder : rank / "missing", group); };
    EXPECT_ERROR(load(), "rank " + std::to_string(rank.rank) + " of 2", "missing");
    load_pipeline_stage<LlamaForCausalLM>(folder, group);  // all of it left the group usable
    destroy_process_group();
  });
}

TEST(SavePipelineTest, EveryRankIsToldWhenTheModelCannotBeWritten) {
  run_on_ranks(2, [](const Rank& rank) {
    const PipelineStage stage(tiny_model(tiny_llama()), rank.join());
    EXPECT_ERROR(save_pretrained(stage, rank / "no" + "/such/folder"), "rank " + std::to_string(rank.rank) + " of 2",
                 "cannot be created");
    save_pretrained(stage, rank / "saved");
    EXPECT_TRUE(std::filesystem::exists(rank / "saved" + "/config.json"));  // on every rank that goes on
    destroy_process_group();
  });
}

/// Four layers of more than 10 MB.
LlamaConfig wide_llama() {
  auto config = tiny_llama();
  config.hidden_size = 512;
  config.intermediate_size = 1376;
  config.num_hidden_layers = 4;
  return config;
}

TEST(LoadPipelineStageTest, ReadsTheTensorsOfItsLayersAlone) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(wide_llama(), rank, group);
    const auto stage = load_pipeline_stage<LlamaForCausalLM>(folder, group);
    const auto ids = tiny_ids(2, 6);
    Schedule1F1B(stage, 1).eval({.input_ids = ids}, {.labels = ids});
    int64_t own = 0;
    for (const auto& parameter : stage.parameters()) {
      own += static_cast<int64_t>(parameter.nbytes());
    }
    constexpr int64_t kAround = 4 << 20;  // a huge page at either end
    EXPECT_GE(mapped_memory("model.safetensors", "Rss"), own / 2);
    EXPECT_LE(mapped_memory("model.safetensors", "Rss"), own + kAround);
    destroy_process_group();
  });
}

TEST(PipelineStageTest, TheLastStageTakesTheSharedEmbeddingsOfTheFirst) {
  run_on_ranks(3, [](const Rank& rank) {
    const auto model = tiny_model(tied_llama());
    {
      const torch::NoGradGuard no_grad;
      model->get_input_embeddings()->weight.fill_(rank.rank);
    }
    const PipelineStage stage(model, rank.join());
    const auto table = stage.shared_embeddings();
    ASSERT_EQ(table.defined(), rank.rank != 1);
    if (table.defined()) {
      EXPECT_TENSORS_EQUAL(table.detach(), torch::zeros_like(table));
    }
    destroy_process_group();
  });
}

TEST(PipelineStageTest, KeepsItsPartOfAModelAndGivesTheRestBack) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(tiny_llama());
    const PipelineStage stage(model, rank.join());
    const auto parameters = model->named_parameters();
    EXPECT_EQ(parameters["model.embed_tokens.weight"].is_meta(), rank.rank != 0);
    EXPECT_EQ(parameters["model.layers.0.mlp.up_proj.weight"].is_meta(), rank.rank != 0);
    EXPECT_EQ(parameters["model.layers.1.mlp.up_proj.weight"].is_meta(), rank.rank != 1);
    EXPECT_EQ(parameters["model.norm.weight"].is_meta(), rank.rank != 1);
    EXPECT_EQ(parameters["lm_head.weight"].is_meta(), rank.rank != 1);
    EXPECT_FALSE(stage.shared_embeddings().defined());
    const auto own_folder = rank / "alone" + std::to_string(rank.rank);  // in one folder, one rank would be locked out
    EXPECT_ERROR(model->save_pretrained(own_folder), "has no values here", "saved by its group");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
