#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/fully_sharded/sharded_state.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <filesystem>
#include <numeric>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/own_rows.h"

namespace transformers {
namespace {

using testing::loss_of;
using testing::own_rows;
using testing::Rank;
using testing::read_file;
using testing::run_on_ranks;
using testing::TemporaryFolder;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;
using testing::write_file;

constexpr int kDied = 9;
constexpr const char* kIndex = "/sharded_checkpoint.index.json";

AdamW adamw_for(const torch::nn::Module& model) {
  const auto options = torch::optim::AdamWOptions(1e-2).weight_decay(0.1);
  return AdamW(decay_groups(model, options), options);
}

/// Steps on batches that hang on their number alone, each rank's share being all of it, so that numbers are the same
/// for any number of ranks but for rounding.
template <typename Loss>
void train(AdamW& optimizer, int64_t first, int64_t steps, const Loss& loss) {
  for (int64_t step = first; step < first + steps; ++step) {
    optimizer.zero_grad();
    loss(tiny_ids(2, 6 + step)).backward();
    optimizer.step();
  }
}

void merge(ShardedState& state, ShardedState&& more) { state.merge(more); }

struct ShardedTraining {
  ShardedTraining(const PretrainedConfig& config, const ProcessGroup& group)
      : module(tiny_model(config)), model(module, group), optimizer(adamw_for(*module)) {}

  void run(int64_t first, int64_t steps) {
    train(optimizer, first, steps,
          [&](const at::Tensor& ids) { return model.run([&](auto& causal_lm) { return loss_of(causal_lm, ids); }); });
  }
  void save(const std::string& folder) {
    auto state = checkpoint_state(model);
    merge(state, checkpoint_state(model, optimizer, optimizer.state_dict()));
    save_sharded_checkpoint(folder, model.group(), state, {{"step", "2"}});
  }
  void load(const std::string& folder) {
    const ShardedCheckpoint checkpoint(folder, model.group());
    load_sharded_checkpoint(checkpoint, model.group(), checkpoint_state(model));
    optimizer.load_state_dict(optimizer_state(checkpoint, model, optimizer));
    EXPECT_EQ(checkpoint.metadata().at("step"), "2");
  }

  std::shared_ptr<CausalLM> module;
  FullyShardedDataParallel<CausalLM> model;
  AdamW optimizer;
};

struct PlainTraining {
  explicit PlainTraining(const PretrainedConfig& config) : module(tiny_model(config)), optimizer(adamw_for(*module)) {}
  void run(int64_t first, int64_t steps) {
    train(optimizer, first, steps, [&](const at::Tensor& ids) { return loss_of(*module, ids); });
  }
  std::shared_ptr<CausalLM> module;
  AdamW optimizer;
};

constexpr testing::Tolerance kSameMath = {1e-6, 1e-6};

void expect_rows_of(const ShardedTraining& sharded, const PlainTraining& plain) {
  for (const auto& own : sharded.model.sharded_parameters()) {
    EXPECT_TENSORS_CLOSE(own.parameter.detach(), own_rows(plain.module->named_parameters()[own.name].detach(), own),
                         kSameMath)
        << own.name;
  }
}

void expect_resumes_in_any_number_of_ranks(const PretrainedConfig& config) {
  run_on_ranks(4, [&](const Rank& rank) {
    const auto all = rank.join();
    PlainTraining plain(config);
    plain.run(0, 4);
    for (const int64_t from : {1, 2, 4}) {
      std::vector<int64_t> members(static_cast<size_t>(from));
      std::iota(members.begin(), members.end(), 0);
      const auto group = new_group(members);
      const auto folder = rank / "from-" + std::to_string(from);
      if (group) {
        ShardedTraining before(config, *group);
        before.run(0, 2);
        before.save(folder);
      }
      all.barrier();
      for (const int64_t to : {1, 2, 4}) {
        members.resize(static_cast<size_t>(to));
        std::iota(members.begin(), members.end(), 0);
        if (const auto other = new_group(members)) {
          ShardedTraining after(config, *other);
          after.load(folder);
          after.run(2, 2);
          expect_rows_of(after, plain);
        }
        all.barrier();
      }
    }
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, LlamaResumesInAnyNumberOfRanks) { expect_resumes_in_any_number_of_ranks(tiny_llama()); }

TEST(ShardedCheckpointTest, TiedGptjResumesInAnyNumberOfRanks) {
  auto config = tiny_gptj();
  config.tie_word_embeddings = true;
  expect_resumes_in_any_number_of_ranks(config);
}

TEST(ShardedCheckpointTest, OnePlainProcessGoesOnFromIt) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto config = tiny_llama();
    ShardedTraining before(config, default_process_group());
    before.run(0, 2);
    before.save(rank / "saved");
    const ShardedCheckpoint checkpoint(rank / "saved");
    PlainTraining plain(config);
    load_sharded_checkpoint(checkpoint, checkpoint_state(*plain.module));
    plain.optimizer.load_state_dict(optimizer_state(checkpoint, *plain.module, plain.optimizer));
    for (const auto& own : before.model.sharded_parameters()) {
      EXPECT_TENSORS_EQUAL(own_rows(plain.module->named_parameters()[own.name].detach(), own), own.parameter.detach());
    }
    const auto states = before.optimizer.state_dict(), restored = plain.optimizer.state_dict();
    EXPECT_EQ(states.keys(), restored.keys());
    before.run(2, 2);
    plain.run(2, 2);
    expect_rows_of(before, plain);
    destroy_process_group();
  });
}

/// A tensor of numbers from 0 on of which a rank holds some.
ShardedTensor numbers(std::vector<int64_t> sizes, int64_t dim, int64_t start, int64_t length) {
  const auto whole = torch::arange(c10::multiply_integers(sizes), at::kFloat).view(sizes);
  return {.local = whole.narrow(dim, start, length), .sizes = sizes, .dim = dim, .start = start};
}

TEST(ShardedCheckpointTest, GivesAnySliceAlongAnyDimension) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto scalar = torch::full({}, 3.5);
    save_sharded_checkpoint(rank / "saved", group,
                            {{"rows", numbers({5, 4}, 0, 3 * rank.rank, 3 - rank.rank)},
                             {"columns", numbers({3, 7}, 1, 2 * rank.rank, rank.rank == 0 ? 2 : 5)},
                             {"both", numbers({4}, 0, 0, 4)},
                             {"empty", numbers({3, 2}, 0, 0, rank.rank == 0 ? 3 : 0)},
                             {"scalar", whole_tensor(scalar)}});
    const ShardedCheckpoint checkpoint(rank / "saved");
    EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"both", "columns", "empty", "rows", "scalar"}));
    EXPECT_EQ(checkpoint.sizes("columns"), (std::vector<int64_t>{3, 7}));
    for (const auto* name : {"rows", "columns"}) {
      const auto& sizes = checkpoint.sizes(name);
      for (int64_t dim = 0; dim < 2; ++dim) {
        for (int64_t start = 0; start <= sizes[dim]; ++start) {
          for (int64_t length = 0; length <= sizes[dim] - start; ++length) {
            EXPECT_TENSORS_EQUAL(checkpoint.slice(name, dim, start, length), numbers(sizes, dim, start, length).local);
          }
        }
      }
      EXPECT_TENSORS_EQUAL(checkpoint.tensor(name), numbers(sizes, 0, 0, sizes[0]).local);
    }
    EXPECT_TENSORS_EQUAL(checkpoint.tensor("scalar"), scalar);
    EXPECT_ERROR(checkpoint.slice("rows", 0, 4, 2), "rows", "[4, 6)", "5");
    EXPECT_ERROR(checkpoint.slice("rows", 2, 0, 1), "rows", "no dimension 2");
    EXPECT_ERROR(checkpoint.tensor("other"), "saved", "other");
    auto target = numbers({5, 4}, 0, 1, 2);
    EXPECT_ERROR(load_sharded_checkpoint(checkpoint, {{"rows", target}, {"third", target}, {"columns", target}}),
                 "missing: third", "columns is [3, 7], expected [5, 4]");
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, TensorParallelModelsAreSavedAndLoadedByTheirSlices) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto whole = tiny_model(tiny_llama()), model = tiny_model(tiny_llama());
    const auto parallel = tensor_parallelize(*model, group);
    ShardedState state;
    for (const auto& entry : state_dict(*model)) {
      state[entry.key()] = whole_tensor(entry.value());
      if (const auto found = parallel.slices.find(entry.key()); found != parallel.slices.end()) {
        auto& tensor = state[entry.key()];
        tensor.dim = found->second.dim;
        tensor.start = found->second.parts[rank.rank].start;
        tensor.sizes[tensor.dim] = found->second.full;
      }
    }
    save_sharded_checkpoint(rank / "saved", group, state);
    const ShardedCheckpoint checkpoint(rank / "saved");
    for (const auto& entry : state_dict(*whole)) {
      EXPECT_TENSORS_EQUAL(checkpoint.tensor(entry.key()), entry.value()) << entry.key();
    }
    for (auto& parameter : model->parameters()) {
      parameter.detach().zero_();
    }
    load_sharded_checkpoint(checkpoint, group, state);
    const auto again = gather_state_dict(*model, parallel);
    for (const auto& entry : again) {
      EXPECT_TENSORS_EQUAL(entry.value(), state_dict(*whole)[entry.key()]);
    }
    destroy_process_group();
  });
}

ShardedState rows_of(double value, int64_t rank) {
  return {{"w", {.local = torch::full({2, 3}, value), .sizes = {4, 3}, .start = 2 * rank}}};
}

int64_t files_in(const std::string& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

TEST(ShardedCheckpointTest, ANewSaveTakesThePlaceOfTheOldOne) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    for (const double value : {1.0, 2.0}) {
      save_sharded_checkpoint(rank / "saved", group, rows_of(value, rank.rank));
      EXPECT_TENSORS_EQUAL(ShardedCheckpoint(rank / "saved").tensor("w"), torch::full({4, 3}, value));
      EXPECT_EQ(files_in(rank / "saved"), 3);
      group.barrier();
    }
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, ExistsOnceASaveWasCompleted) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = rank / "saved";
    EXPECT_FALSE(ShardedCheckpoint::exists(folder));
    std::filesystem::create_directory(folder);  // as a save leaves it in which a rank died
    write_file(folder + "/part-0123456789abcdef-00001-of-00002.safetensors", "cut");
    EXPECT_FALSE(ShardedCheckpoint::exists(folder));
    group.barrier();
    save_sharded_checkpoint(folder, group, rows_of(1, rank.rank));
    EXPECT_TRUE(ShardedCheckpoint::exists(folder));
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, WhenOneRankCannotWriteAllThrowAndTheOldOneStays) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    save_sharded_checkpoint(rank / "saved", group, rows_of(1, rank.rank));
    const auto own = "rank " + std::to_string(rank.rank) + " of 2";
    const auto folder = rank.rank == 0 ? rank / "saved" : rank / "missing";
    EXPECT_ERROR(save_sharded_checkpoint(folder, group, rows_of(2, rank.rank)), own, "missing");
    EXPECT_ERROR(save_sharded_checkpoint(rank / "saved", group, {{"w", whole_tensor({})}}), own, "undefined");
    const auto odd = rank.rank == 0 ? rows_of(2, 0) : ShardedState{{"w", whole_tensor(torch::ones({4}))}};
    EXPECT_ERROR(save_sharded_checkpoint(rank / "saved", group, odd), "w is Float [4]", "on rank 1", "Float [4, 3]");
    EXPECT_ERROR(save_sharded_checkpoint(rank / "saved", group, rows_of(2, 0)), "hold 2 of 4 entries");
    auto outside = rows_of(2, rank.rank);
    outside["w"].start = 3;
    EXPECT_ERROR(save_sharded_checkpoint(rank / "saved", group, outside), "w [2, 3] from 3 on is no part of [4, 3]");
    group.barrier();
    EXPECT_TENSORS_EQUAL(ShardedCheckpoint(rank / "saved", group).tensor("w"), torch::ones({4, 3}));
    EXPECT_EQ(files_in(rank / "saved"), 3);
    destroy_process_group();
  });
}

// The index is in place by then: what it names must not go because something after it failed.
TEST(ShardedCheckpointTest, AnOldPartThatCannotBeRemovedCostsNoNewOne) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto folder = rank / "saved";
    save_sharded_checkpoint(folder, group, rows_of(1, rank.rank));
    const auto obstacle = folder + "/part-0123456789abcdef-00001-of-00002.safetensors";
    std::filesystem::create_directories(obstacle);
    group.barrier();
    EXPECT_ERROR(save_sharded_checkpoint(folder, group, rows_of(2, rank.rank)), "cannot be removed");
    group.barrier();
    EXPECT_TENSORS_EQUAL(ShardedCheckpoint(folder, group).tensor("w"), torch::full({4, 3}, 2.0));
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, WhenARankDiesWhileSavingTheOldOneStays) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto group = rank.join();
                 save_sharded_checkpoint(rank / "saved", group, rows_of(1, rank.rank));
                 if (rank.rank == 1) {
                   std::_Exit(kDied);
                 }
                 EXPECT_ERROR(save_sharded_checkpoint(rank / "saved", group, rows_of(2, 0)), "rank 0 of 2");
                 EXPECT_TENSORS_EQUAL(ShardedCheckpoint(rank / "saved").tensor("w"), torch::ones({4, 3}));
               },
               {.expected_status = {{1, kDied}}});
}

TEST(ShardedCheckpointTest, WhenOneRankCannotReadAllThrow) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    save_sharded_checkpoint(rank / "saved", group, rows_of(1, rank.rank));
    const auto own = "rank " + std::to_string(rank.rank) + " of 2";
    EXPECT_ERROR(ShardedCheckpoint(rank.rank == 0 ? rank / "saved" : rank / "missing", group), own, "missing");
    const ShardedCheckpoint checkpoint(rank / "saved", group);
    auto into = rows_of(0, rank.rank);
    if (rank.rank == 1) {
      into["other"] = into["w"];
    }
    EXPECT_ERROR(load_sharded_checkpoint(checkpoint, group, into), own, "missing: other");
    EXPECT_TENSORS_EQUAL(into["w"].local, torch::zeros({2, 3}));
    destroy_process_group();
  });
}

TEST(ShardedCheckpointTest, StatesThatCannotBeSpreadAreNamed) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    ShardedTraining training(tiny_llama(), default_process_group());
    StateDict state;
    state.insert("0.exp_avg_sq_col", torch::ones({24}));
    EXPECT_ERROR(checkpoint_state(training.model, training.optimizer, state), "exp_avg_sq_col", "[24]");
    StateDict unknown;
    unknown.insert("999.step", torch::ones({}));
    EXPECT_ERROR(checkpoint_state(training.model, training.optimizer, unknown), "999.step");
    const auto stranger = tiny_model(tiny_llama());
    const auto other = adamw_for(*stranger);
    EXPECT_ERROR(checkpoint_state(training.model, other, StateDict()), "none of the model's");
    destroy_process_group();
  });
}

/// A checkpoint of one tensor [2, 3] in two parts, written by hand.
struct HandMade {
  HandMade() {
    part("a", {1, 3});
    part("b", {1, 3});
    write_file(folder / "sharded_checkpoint.index.json", text);
  }
  void part(const std::string& name, at::IntArrayRef sizes, const std::string& id = "7") const {
    torch::OrderedDict<std::string, at::Tensor> tensors;
    tensors.insert("w", torch::full(sizes, name == "a" ? 1.0 : 2.0));
    save_safetensors(folder / name, tensors, {{"save_id", id}});
  }
  void replace(const std::string& from, const std::string& to) const {
    auto changed = text;
    ASSERT_NE(changed.find(from), std::string::npos) << from;
    write_file(folder.path().string() + kIndex, changed.replace(changed.find(from), from.size(), to));
  }
  ShardedCheckpoint open() const { return ShardedCheckpoint(folder.path().string()); }

  TemporaryFolder folder;
  std::string text =
      R"({"format":"libtransformers sharded checkpoint","version":1,"save_id":"7","metadata":{"step":"5"},
    "tensors":{"w":{"dtype":"F32","shape":[2,3],"dim":0,
    "slices":[{"file":"a","start":0,"length":1},{"file":"b","start":1,"length":1}]}}})";
};

TEST(ShardedCheckpointFilesTest, AHandMadeOneIsRead) {
  const HandMade files;
  EXPECT_TENSORS_EQUAL(files.open().tensor("w"), torch::tensor({{1., 1., 1.}, {2., 2., 2.}}, at::kFloat));
  EXPECT_EQ(files.open().metadata().at("step"), "5");
  EXPECT_EQ(files.open().dtype("w"), at::kFloat);
}

TEST(ShardedCheckpointFilesTest, PartsThatAreMissingCutOrOfAnotherSaveAreNamed) {
  const HandMade files;
  files.part("b", {2, 3});
  EXPECT_ERROR(files.open(), "/b", "tensor w", "[1, 3]", "[2, 3]");
  files.part("b", {1, 3}, "8");
  EXPECT_ERROR(files.open(), "/b", "another save", "8, expected 7");
  files.part("b", {1, 3});
  const auto bytes = read_file(files.folder / "b");
  write_file(files.folder / "b", bytes.substr(0, bytes.size() - 1));
  EXPECT_ERROR(files.open(), "/b");
  write_file(files.folder / "b", "");
  EXPECT_ERROR(files.open(), "/b");
  std::filesystem::remove(files.folder / "b");
  EXPECT_ERROR(files.open(), "/b");
  std::filesystem::remove(files.folder / "sharded_checkpoint.index.json");
  EXPECT_ERROR(files.open(), "sharded_checkpoint.index.json");
}

TEST(ShardedCheckpointFilesTest, IndexesThatAreForeignOrWrongAreRefused) {
  const HandMade files;
  const auto expect_refused = [&](const std::string& from, const std::string& to, const std::string& fragment) {
    files.replace(from, to);
    EXPECT_ERROR(files.open(), "sharded_checkpoint.index.json", fragment);
  };
  expect_refused(files.text, R"({"metadata":{},"weight_map":{"w":"a"}})", "no index of a sharded checkpoint");
  expect_refused(files.text, "[]", "expected an object");
  expect_refused(files.text, "{", "");
  expect_refused("\"version\":1", "\"version\":2", "expected version 1, found 2");
  expect_refused("\"save_id\":\"7\"", "\"save_id\":7", "save_id must be a text");
  expect_refused("{\"step\":\"5\"}", "{\"step\":5}", "metadata must hold texts");
  expect_refused("{\"step\":\"5\"}", "3", "metadata");
  expect_refused("F32", "F33", "F33");
  expect_refused("[2,3]", "[-2,3]", "whole numbers");
  expect_refused("[2,3]", "[2.5,3]", "whole numbers");
  expect_refused("[2,3]", "[4611686018427387904,4611686018427387904]", "overflows");
  expect_refused("[2,3]", "[3,3]", "hold 2 of 3 entries");
  expect_refused("\"dim\":0", "\"dim\":2", "dim 2");
  expect_refused("\"file\":\"b\"", "\"file\":\"../b\"", "../b");
  expect_refused("\"start\":1", "\"start\":0", "without holes or overlaps");
  expect_refused("\"start\":1,\"length\":1", "\"start\":1,\"length\":9223372036854775807", "without holes or overlaps");
  expect_refused("\"start\":1,\"length\":1", "\"start\":1", "length is missing");
  expect_refused("\"slices\":[", "\"slices\":3,\"other\":[", "slices must be an array");
}

}  // namespace
}  // namespace transformers
