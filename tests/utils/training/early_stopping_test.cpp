#include <transformers/utils/training/early_stopping.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

TEST(EarlyStoppingCallbackTest, CountsAndStopsAsInPython) {
  const auto cases = golden_cases("training", "evaluations");
  ASSERT_EQ(cases.size(), 4U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto greater = c.get<bool>("greater_is_better");
    EarlyStoppingCallback callback(c.get<int64_t>("patience"), c.get<double>("threshold"));
    std::optional<double> best;
    bool stopped = false;
    for (size_t i = 0; i < c.arguments["metrics"].size(); ++i) {
      const auto metric = c.arguments["metrics"][i].get<double>();
      const auto& row = c.arguments["rows"][i];
      stopped = !callback.on_evaluate(metric, best, greater) || stopped;
      EXPECT_EQ(callback.early_stopping_patience_counter(), row[0]);
      EXPECT_EQ(stopped, row[1]);
      best = row[2].get<double>();
    }
  }
}

TEST(EarlyStoppingCallbackTest, ASavedCounterGoesOn) {
  EarlyStoppingCallback callback(2), resumed(2);
  EXPECT_TRUE(callback.on_evaluate(1, 0.5, false));
  resumed.load_state_dict(callback.state_dict());
  EXPECT_EQ(resumed.early_stopping_patience_counter(), 1);
  EXPECT_FALSE(resumed.on_evaluate(1, 0.5, false));
  EXPECT_ERROR(resumed.load_state_dict(StateDict()), "counter", "missing");
}

TEST(EarlyStoppingCallbackTest, SettingsThatCannotBeAreRefused) {
  EXPECT_ERROR(EarlyStoppingCallback(0), "early_stopping_patience", "0");
  EXPECT_ERROR(EarlyStoppingCallback(1, -0.5), "early_stopping_threshold", "-0.5");
}

}  // namespace
}  // namespace transformers::testing
