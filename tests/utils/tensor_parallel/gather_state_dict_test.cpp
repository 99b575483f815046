#include <fcntl.h>
#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/io/checkpoint.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>
#include <unistd.h>

#include <filesystem>

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

void expect_equal_states(const StateDict& actual, const StateDict& expected) {
  EXPECT_EQ(actual.keys(), expected.keys());
  for (const auto& entry : expected) {
    EXPECT_TENSORS_EQUAL(actual[entry.key()], entry.value()) << entry.key();
  }
}

GPTJConfig gptj_with_four_heads() {
  auto config = tiny_gptj();
  config.n_head = 4;
  return config;
}

LlamaConfig tied_llama() {
  auto config = tiny_llama();
  config.vocab_size = 43;
  config.tie_word_embeddings = true;
  return config;
}

/// A folder of the test that rank 0 fills before the others go on.
std::string saved_folder(PreTrainedModel& model, const Rank& rank, const ProcessGroup& group) {
  const auto folder = rank / "model";
  if (rank.rank == 0) {
    model.save_pretrained(folder);
  }
  group.barrier();
  return folder;
}

TEST(GatherStateDictTest, GivesOneRankTheModelAsItWas) {
  run_on_ranks(4, [](const Rank& rank) {
    const auto group = rank.join();
    const auto whole = tiny_model(tied_llama()), model = tiny_model(tied_llama());
    const auto parallel = tensor_parallelize(*model, group);
    const auto state = gather_state_dict(*model, parallel, 2);
    if (rank.rank == 2) {
      expect_equal_states(state, state_dict(*whole));
    } else {
      EXPECT_TRUE(state.is_empty());
    }
    EXPECT_ERROR(gather_state_dict(*model, parallel, 4), "dst must be in [0, 4), got 4");
    destroy_process_group();
  });
}

void expect_saved_as_it_was(const PretrainedConfig& config, int64_t ranks) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    const auto group = rank.join();
    const auto whole = tiny_model(config), model = tiny_model(config);
    const auto parallel = tensor_parallelize(*model, group);
    save_pretrained(*model, parallel, rank / "saved");
    group.barrier();
    const auto again = AutoModelForCausalLM::from_pretrained(rank / "saved");
    expect_equal_states(state_dict(*again), state_dict(*whole));
    EXPECT_EQ(again->get_output_embeddings()->weight.is_same(again->get_input_embeddings()->weight),
              config.tie_word_embeddings);
    destroy_process_group();
  });
}

TEST(SaveTensorParallelTest, WritesTheWholeLlama) { expect_saved_as_it_was(tiny_llama(), 4); }
TEST(SaveTensorParallelTest, WritesTiedEmbeddingsOnce) { expect_saved_as_it_was(tied_llama(), 2); }
TEST(SaveTensorParallelTest, WritesTheWholeGPTJ) { expect_saved_as_it_was(gptj_with_four_heads(), 2); }

TEST(SaveTensorParallelTest, EveryRankIsToldWhenTheModelCannotBeWritten) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(tiny_llama());
    const auto parallel = tensor_parallelize(*model, rank.join());
    EXPECT_ERROR(save_pretrained(*model, parallel, rank / "no" + "/such/folder"),
                 "rank " + std::to_string(rank.rank) + " of 2", "cannot be created");
    save_pretrained(*model, parallel, rank / "saved");
    EXPECT_TRUE(std::filesystem::exists(rank / "saved" + "/config.json"));  // on every rank that goes on
    destroy_process_group();
  });
}

TEST(SaveTensorParallelTest, ARankCannotSaveItsSlicesAsAModel) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto model = tiny_model(tiny_llama());
    tensor_parallelize(*model, rank.join());
    const auto own_folder = rank / "slices" + std::to_string(rank.rank);  // in one folder, one rank would be locked out
    EXPECT_ERROR(model->save_pretrained(own_folder), own_folder + ": the embeddings hold 20 of the config's 40 tokens",
                 "split over ranks");
    destroy_process_group();
  });
}

void expect_slices_of_from_pretrained(const std::string& folder, const ProcessGroup& group,
                                      const LoadOptions& options = {}) {
  const auto alone = AutoModelForCausalLM::from_pretrained(folder, options);
  const auto [model, parallel] = load_tensor_parallel<AutoModelForCausalLM>(folder, group, options);
  const auto expected = state_dict(*alone);
  for (const auto& entry : state_dict(*model)) {
    const auto slice = own_slice(expected[entry.key()], entry.key(), parallel);
    EXPECT_TENSORS_EQUAL(entry.value(), slice.contiguous()) << entry.key();
  }
  EXPECT_EQ(model->config().dtype, alone->config().dtype);
  EXPECT_FALSE(model->is_training());
}

void expect_loaded_as_split(const PretrainedConfig& config, const LoadOptions& options = {}) {
  run_on_ranks(2, [&](const Rank& rank) {
    const auto group = rank.join();
    expect_slices_of_from_pretrained(saved_folder(*tiny_model(config), rank, group), group, options);
    destroy_process_group();
  });
}

TEST(LoadTensorParallelTest, GivesTheSlicesOfTheLlamaThatFromPretrainedGives) { expect_loaded_as_split(tied_llama()); }

TEST(LoadTensorParallelTest, GivesTheSlicesOfTheGPTJThatFromPretrainedGives) {
  expect_loaded_as_split(gptj_with_four_heads());
}

TEST(LoadTensorParallelTest, ConvertsTheSlicesToTheDtypeAskedFor) {
  LoadOptions options;
  options.dtype = at::kBFloat16;
  expect_loaded_as_split(tiny_llama(), options);
}

TEST(LoadTensorParallelTest, KeepsThePrecisionOfAFolderWithSeveralDtypes) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(*tiny_model(tiny_llama()), rank, group);
    if (rank.rank == 0) {
      auto state = state_dict(*tiny_model(tiny_llama()));
      auto& first = state.front().value();
      first = first.to(at::kBFloat16);
      save_checkpoint(folder, state);
    }
    group.barrier();
    expect_slices_of_from_pretrained(folder, group);
    destroy_process_group();
  });
}

TEST(LoadTensorParallelTest, WhenOneRankCannotReadAllThrow) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(*tiny_model(tiny_llama()), rank, group);
    const auto load = [&] {
      load_tensor_parallel<LlamaForCausalLM>(rank.rank == 0 ? folder : rank / "missing", group);
    };
    EXPECT_ERROR(load(), "rank " + std::to_string(rank.rank) + " of 2", "missing");
    load_tensor_parallel<LlamaForCausalLM>(folder, group);  // all of it left the group usable
    destroy_process_group();
  });
}

/// Bytes of a tensor's pages that this process has touched.
int64_t touched_bytes(const at::Tensor& tensor) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) / page,
             end = (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) + tensor.nbytes() + page - 1) / page;
  std::vector<uint64_t> entries(end - begin);
  const int file = open("/proc/self/pagemap", O_RDONLY);
  const auto size = entries.size() * sizeof(uint64_t);
  EXPECT_EQ(pread(file, entries.data(), size, static_cast<off_t>(begin * sizeof(uint64_t))),
            static_cast<ssize_t>(size));
  close(file);
  constexpr uint64_t kPresent = uint64_t{1} << 63;
  return static_cast<int64_t>(page) *
         std::count_if(entries.begin(), entries.end(), [](uint64_t entry) { return (entry & kPresent) != 0; });
}

/// Matrices of 16 MiB, many times what the kernel maps at once.
LlamaConfig wide_llama() {
  auto config = tiny_llama();
  config.vocab_size = config.intermediate_size = 65536;
  config.hidden_size = 64;
  config.num_hidden_layers = 1;
  return config;
}

TEST(LoadTensorParallelTest, ReadsOnlyThePagesOfItsRows) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = saved_folder(*tiny_model(wide_llama()), rank, group);
    auto model = LlamaForCausalLM::from_pretrained(folder);
    const auto pages = state_dict(*model);  // keeps the file mapped
    tensor_parallelize(*model, group);
    constexpr int64_t kAround = 4 << 20;  // a huge page at either end
    for (const auto* name : {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight",
                             "model.layers.0.mlp.gate_proj.weight"}) {
      const auto half = static_cast<int64_t>(pages[name].nbytes()) / 2;
      EXPECT_GE(touched_bytes(pages[name]), half) << name;
      EXPECT_LE(touched_bytes(pages[name]), half + kAround) << name;
    }
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
