// Many loads, generations and training steps in one process: memory, threads and descriptors stay where they were.
// TRANSFORMERS_SOAK=N makes it N times as long; scripts/soak.sh does.
#include <torch/optim/adamw.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/data/batch_loader.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/optim/lr_scheduler.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/tokenization/tokenizer.h>
#include <transformers/utils/training/trainer.h>
#include <transformers/utils/training/training_tasks.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

int64_t rounds(int64_t once) {
  const char* times = std::getenv("TRANSFORMERS_SOAK");
  return once * std::max<int64_t>(1, times == nullptr ? 1 : std::atoll(times));
}

int64_t entries(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

int64_t resident_bytes() {
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

/// What the process holds, looked at after each round.
class Watch {
 public:
  void look() {
    memory_.push_back(resident_bytes());
    threads_.push_back(entries("/proc/self/task"));
    descriptors_.push_back(entries("/proc/self/fd"));
  }

  /// The second half against the second quarter: caches and pools fill in the first.
  void expect_flat() const {
    EXPECT_EQ(peak(threads_, 2, 4), peak(threads_, 1, 2)) << "threads";
    EXPECT_EQ(peak(descriptors_, 2, 4), peak(descriptors_, 1, 2)) << "descriptors";
    const int64_t growth = peak(memory_, 2, 4) - peak(memory_, 1, 2);
    // The allocator's own bookkeeping moves by pages; a leak of a hundred bytes a round would show over the long run.
    EXPECT_LE(growth, int64_t{2} << 20) << "bytes of memory grown over " << memory_.size() / 2 << " rounds";
    std::printf(
        "%zu rounds: %lld KiB at the end, %lld KiB more in the second half than in the second quarter; %lld threads, "
        "%lld descriptors\n",
        memory_.size(), static_cast<long long>(memory_.back() >> 10), static_cast<long long>(growth >> 10),
        static_cast<long long>(threads_.back()), static_cast<long long>(descriptors_.back()));
    RecordProperty("resident_bytes", std::to_string(memory_.back()));
  }

 private:
  static int64_t peak(const std::vector<int64_t>& values, size_t from, size_t to) {
    const auto quarter = static_cast<std::ptrdiff_t>(values.size() / 4);
    return *std::max_element(values.begin() + quarter * static_cast<std::ptrdiff_t>(from),
                             values.begin() + quarter * static_cast<std::ptrdiff_t>(to));
  }
  static void RecordProperty(const char* key, const std::string& value) { ::testing::Test::RecordProperty(key, value); }

  std::vector<int64_t> memory_, threads_, descriptors_;
};

TEST(SoakTest, GenerationsWithReloadsHoldNothing) {
  const TemporaryFolder folder;
  Watch watch;
  for (int64_t round = 0; round < rounds(200); ++round) {
    const auto family = round % 2 == 0 ? std::shared_ptr<CausalLM>(tiny_model(tiny_llama())) : tiny_model(tiny_gptj());
    family->save_pretrained(folder.path().string());
    const auto model = AutoModelForCausalLM::from_pretrained(folder.path().string());
    GenerationConfig config{.max_new_tokens = 8};
    config.do_sample = round % 3 == 1;
    config.num_beams = round % 3 == 2 ? 3 : 1;
    config.eos_token_id = {-1};
    const auto output = generate(*model, {.input_ids = tiny_ids(2, 5)}, config);
    ASSERT_EQ(output.sequences.size(1), 13);
    watch.look();
  }
  watch.expect_flat();
}

TEST(SoakTest, TrainingStepsWithCheckpointsHoldNothing) {
  const TemporaryFolder folder;
  const auto model = tiny_model(tiny_llama());
  const auto options = torch::optim::AdamWOptions(1e-3);
  AdamW optimizer(model->parameters(), options);
  const int64_t steps = rounds(250);
  const auto scheduler = get_scheduler(SchedulerType::kConstant, optimizer, {.num_training_steps = steps});
  const auto ids = tiny_ids(16, 12);
  BatchLoader data(std::make_shared<TensorDataset>(Batch{{"input_ids", ids}, {"labels", ids}}), padding_collator(0),
                   {.batch_size = 4});
  Watch watch;
  const auto look = [&](const TrainingLog&) {
    watch.look();
    return true;
  };
  TrainingArguments arguments;
  arguments.max_steps = steps;
  arguments.output_dir = folder.path().string();
  arguments.save_steps = 50;
  arguments.save_total_limit = 2;
  Trainer trainer(*model, causal_lm_task(*model), optimizer, *scheduler, std::move(arguments),
                  {.on_step = look, .write_model = [&](const std::string& place) { model->save_pretrained(place); }});
  EXPECT_EQ(trainer.train(data), steps);
  watch.expect_flat();
}

}  // namespace
}  // namespace transformers::testing
