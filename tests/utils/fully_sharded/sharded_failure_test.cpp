#include <sys/resource.h>
#include <torch/torch.h>
#include <transformers/utils/fully_sharded/sharded_state.h>

#include <csignal>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_death.h"
#include "utils/fully_sharded/two_layers.h"

// A rank that dies: the others end with an error that names them and the reason, in time.

namespace transformers {
namespace {

using testing::DeathCase;
using testing::die;
using testing::each_layer;
using testing::expect_errors_when_a_rank_dies;
using testing::loss_of;
using testing::Rank;
using testing::run_on_ranks;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;
using testing::two_layers;
using testing::TwoLayersImpl;

using Sharded = FullyShardedDataParallel<CausalLM>;
using Operation = std::function<void(Sharded&, const Rank&)>;

at::Tensor loss_of_sharded(Sharded& model) {
  return model.run([](auto& causal_lm) { return loss_of(causal_lm, tiny_ids(2, 6)); });
}

/// dies_inside: in the second layer's MLP.
DeathCase dying(const std::string& name, const std::string& says, const Operation& operation,
                bool dies_inside = false) {
  const auto prepare = [=](const Rank& rank, const ProcessGroup& group) {
    const auto model = std::make_shared<Sharded>(tiny_model(tiny_llama()), group);
    if (rank.rank == 1 && dies_inside) {
      model->module().structure().layers[1].mlp_output->register_forward_pre_hook(
          [](const at::Tensor&) -> at::Tensor { die(); });
    }
    return [operation, model, rank] { operation(*model, rank); };
  };
  return {.name = name, .says = says, .prepare = prepare, .dies_inside = dies_inside};
}

ShardedState rows_of(double value, int64_t rank) {
  return {{"w", {.local = torch::full({2, 3}, value), .sizes = {4, 3}, .start = 2 * rank}}};
}

DeathCase dying_with_checkpoint(const std::string& name,
                                const std::function<void(const Rank&, const ProcessGroup&)>& operation) {
  return {.name = name, .says = "all_gather_into_tensor", .prepare = [operation](const Rank& rank, const auto& group) {
            save_sharded_checkpoint(rank / "saved", group, rows_of(1, rank.rank));
            return [=] { operation(rank, group); };
          }};
}

DeathCase dying_in_backward() {
  const auto prepare = [](const Rank&, const ProcessGroup& group) {
    const auto model = std::make_shared<FullyShardedDataParallel<TwoLayersImpl>>(two_layers(), group, each_layer());
    const auto loss = (*model)(torch::ones({1, 3})).sum();
    return [model, loss] { loss.backward(); };
  };
  return {.name = "backward", .says = "unit 'second'", .prepare = prepare};
}

TEST(FullyShardedFailureTest, ARankThatDiesEndsWhatTheOtherDoes) {
  const Operation step = [](Sharded& model, const Rank&) { loss_of_sharded(model).backward(); };
  expect_errors_when_a_rank_dies(
      2, 1,
      {dying("step", "all-gather of", step),
       dying("inside forward", "all-gather of", step, /*dies_inside=*/true),
       dying_in_backward(),
       dying("gather_state_dict", "all-gather of", [](Sharded& model, const Rank&) { gather_state_dict(model); }),
       dying("save_pretrained", "all-gather of",
             [](Sharded& model, const Rank& rank) { save_pretrained(model, rank / "saved"); }),
       dying("summon_full_params", "all-gather of",
             [](Sharded& model, const Rank&) { (void)model.summon_full_params(); }),
       dying("clip_grad_norm_", "all_reduce", [](Sharded& model, const Rank&) { model.clip_grad_norm_(1); }),
       {.name = "construction",
        .says = "all_gather_into_tensor",
        .prepare = [](const Rank&, const ProcessGroup& group) {
          return [group] { Sharded(tiny_model(tiny_llama()), group); };
        }}});
}

TEST(ShardedCheckpointFailureTest, ARankThatDiesEndsTheReadingOfTheOther) {
  expect_errors_when_a_rank_dies(
      2, 1,
      {dying_with_checkpoint(
           "open", [](const Rank& rank, const ProcessGroup& group) { ShardedCheckpoint(rank / "saved", group); }),
       dying_with_checkpoint("load", [](const Rank& rank, const ProcessGroup& group) {
         load_sharded_checkpoint(ShardedCheckpoint(rank / "saved"), group, rows_of(0, rank.rank));
       })});
}

/// From here on the kernel ends this process when it writes more than so many bytes into one file.
void die_of_files_above(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_DFL);
  const rlimit no_core{0, 0}, size{bytes, bytes};
  setrlimit(RLIMIT_CORE, &no_core);
  setrlimit(RLIMIT_FSIZE, &size);
}

TEST(ShardedCheckpointFailureTest, WhenRankZeroDiesBetweenThePartsAndTheIndexTheOldOneStays) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 const auto group = rank.join();
                 const auto folder = rank / "saved";
                 save_sharded_checkpoint(folder, group, rows_of(1, rank.rank));
                 if (rank.rank == 0) {
                   die_of_files_above(50'000);
                 }
                 const std::map<std::string, std::string> long_note{{"note", std::string(100'000, 'x')}};
                 EXPECT_ERROR(save_sharded_checkpoint(folder, group, rows_of(2, rank.rank), long_note), "rank 1 of 2");
                 EXPECT_TENSORS_EQUAL(ShardedCheckpoint(folder).tensor("w"), torch::ones({4, 3}));
                 destroy_process_group();
                 const auto alone =
                     init_process_group({.store = Store::file(rank / "alone", 1), .rank = 0, .world_size = 1});
                 save_sharded_checkpoint(folder, alone, {{"w", whole_tensor(torch::zeros({4, 3}))}});
                 EXPECT_TENSORS_EQUAL(ShardedCheckpoint(folder).tensor("w"), torch::zeros({4, 3}));
               },
               {.expected_status = {{0, 128 + SIGXFSZ}}});
}

}  // namespace
}  // namespace transformers
