#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/distributed/torchrun.h>

#include <filesystem>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::Rank;

constexpr int kSteps = 6;
constexpr int kStepOfDeath = 3;

/// The last checkpoint of a folder: its model, the optimizer beside it, and the number of steps behind it.
struct Progress {
  int done = 0;
  std::shared_ptr<CausalLM> model{};
  std::string optimizer_file{};
};

std::string checkpoint_path(const std::string& folder, int step) { return folder + "/step" + std::to_string(step); }

Progress last_checkpoint(const std::string& folder) {
  for (int step = kSteps; step > 0; --step) {
    const auto path = checkpoint_path(folder, step);
    if (std::filesystem::exists(path)) {
      return {step, AutoModelForCausalLM::from_pretrained(path), path + "/optimizer.pt"};
    }
  }
  return {0, testing::tiny_model(testing::tiny_llama())};
}

/// Appears under its name when it is whole.
void save_checkpoint_of(CausalLM& model, torch::optim::Optimizer& optimizer, const std::string& path) {
  const auto unfinished = path + ".unfinished";
  std::filesystem::remove_all(unfinished);
  model.save_pretrained(unfinished);
  torch::save(optimizer, unfinished + "/optimizer.pt");
  std::filesystem::rename(unfinished, path);
}

/// Trains to the end from wherever the folder's checkpoints are; `before_step` may end the process.
std::shared_ptr<CausalLM> train(const ProcessGroup& group, const std::string& folder,
                                const std::function<void(int)>& before_step) {
  const auto progress = last_checkpoint(folder);
  progress.model->train();
  DistributedDataParallel model(progress.model, group);
  torch::optim::AdamW optimizer(progress.model->parameters(), 1e-2);
  if (progress.done > 0) {
    torch::load(optimizer, progress.optimizer_file);
  }
  const auto batches = testing::tiny_ids(4 * kSteps, 8).chunk(kSteps);
  for (int step = progress.done; step < kSteps; ++step) {
    before_step(step);
    optimizer.zero_grad();
    const auto ids = batches[step].chunk(group.size())[group.rank()];
    const auto output = model.run(
        [&](auto& causal_lm) { return causal_lm.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}); });
    output.loss.backward();
    optimizer.step();
    if (group.rank() == 0) {
      save_checkpoint_of(*progress.model, optimizer, checkpoint_path(folder, step + 1));
    }
    group.barrier();  // nobody goes on, or dies, before the step is on disk
  }
  return progress.model;
}

// Rank 1 dies once in step 3. torchrun restarts both ranks, which go on from the checkpoint of step 3; the outcome is
// bit by bit that of a training that nothing disturbed.
TEST(ElasticRestartTest, TrainingGoesOnFromTheLastCheckpointAfterARankDied) {
  testing::run_under_torchrun(
      2,
      [](const Rank& rank) {
        const auto restart = torchrun_worker()->restart_count;
        const auto group = init_process_group({.timeout = 10s});
        int first_step = -1;
        std::filesystem::create_directories(rank / "elastic");
        const auto model = train(group, rank / "elastic", [&](int step) {
          first_step = first_step < 0 ? step : first_step;
          if (restart == 0 && rank.rank == 1 && step == kStepOfDeath) {
            std::_Exit(9);
          }
        });
        EXPECT_EQ(restart, 1);
        EXPECT_EQ(first_step, kStepOfDeath);

        std::filesystem::create_directories(rank / "undisturbed");
        const auto expected = train(group, rank / "undisturbed", [](int) {});
        for (const auto& parameter : expected->named_parameters()) {
          EXPECT_TENSORS_EQUAL(model->named_parameters()[parameter.key()].detach(), parameter->detach())
              << parameter.key();
        }
        destroy_process_group();
      },
      {.arguments = {"--max-restarts=1"}});
}

}  // namespace
}  // namespace transformers
