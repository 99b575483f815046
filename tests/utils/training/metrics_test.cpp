#include <ATen/ATen.h>
#include <transformers/utils/training/metrics.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

constexpr double kTolerance = 1e-12;

void expect_scores(const PrecisionRecallF1& found, const nlohmann::json& expected) {
  EXPECT_NEAR(found.precision, expected[0].get<double>(), kTolerance);
  EXPECT_NEAR(found.recall, expected[1].get<double>(), kTolerance);
  EXPECT_NEAR(found.f1, expected[2].get<double>(), kTolerance);
}

TEST(MetricsTest, AccuracyAndF1AreThoseOfScikitLearn) {
  const std::map<std::string, Average> averages{{"binary", Average::kBinary},
                                                {"macro", Average::kMacro},
                                                {"micro", Average::kMicro},
                                                {"weighted", Average::kWeighted}};
  const auto cases = golden_cases("training", "metrics_classes");
  ASSERT_EQ(cases.size(), 5U);
  for (const auto& c : cases) {
    const auto predictions = c.tensor("predictions"), references = c.tensor("references");
    EXPECT_NEAR(accuracy(predictions, references), c.get<double>("accuracy"), kTolerance);
    for (const auto& [average, scores] : c.arguments["scores"].items()) {
      SCOPED_TRACE(c.name + " " + average);
      expect_scores(precision_recall_f1(predictions, references, averages.at(average)), scores);
    }
  }
}

TEST(MetricsTest, AnswersAreComparedAsSquadDoes) {
  const auto cases = golden_cases("training", "metrics_answers");
  ASSERT_EQ(cases.size(), 12U);
  for (const auto& c : cases) {
    const auto prediction = c.get<std::string>("prediction");
    SCOPED_TRACE(prediction);
    EXPECT_EQ(normalize_answer(prediction), c.get<std::string>("normalized"));
    const auto scores = squad_scores(prediction, c.get<std::vector<std::string>>("references"));
    EXPECT_EQ(scores.exact_match, c.get<double>("exact_match"));
    EXPECT_NEAR(scores.f1, c.get<double>("f1"), kTolerance);
  }
}

TEST(MetricsTest, EntitiesAreThoseOfSeqeval) {
  const auto cases = golden_cases("training", "metrics_entities");
  ASSERT_EQ(cases.size(), 8U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    using Sequences = std::vector<std::vector<std::string>>;
    const auto predictions = c.get<Sequences>("predictions");
    expect_scores(entity_scores(predictions, c.get<Sequences>("references")), c.arguments["scores"]);
    for (size_t i = 0; i < predictions.size(); ++i) {
      std::vector<Entity> expected;
      for (const auto& entity : c.arguments["entities"][i]) {
        expected.push_back({entity[0], entity[1], entity[2]});
      }
      EXPECT_EQ(entities_of(predictions[i]), expected);
    }
  }
}

TEST(MetricsTest, ExactMatchComparesBytes) {
  EXPECT_EQ(exact_match({"a", "b", "C", ""}, {"a", "b", "c", ""}), 0.75);
  EXPECT_ERROR(exact_match({}, {}), "0");
  EXPECT_ERROR(exact_match({"a"}, {"a", "b"}), "1", "2");
}

TEST(MetricsTest, WhatCannotBeComparedIsRefused) {
  const auto ones = at::ones({3}, at::kLong);
  EXPECT_ERROR(accuracy(ones, at::ones({2}, at::kLong)), "3", "2");
  EXPECT_ERROR(accuracy(at::ones({3}), ones), "int64", "Float");
  EXPECT_ERROR(accuracy(at::ones({0}, at::kLong), at::ones({0}, at::kLong)), "[0]");
  EXPECT_ERROR(precision_recall_f1(at::arange(3, at::kLong), ones), "two classes", "3");
  EXPECT_ERROR(precision_recall_f1(ones + at::tensor({1, 1, 3}), ones * 2), "pos_label 1");
  EXPECT_ERROR(squad_scores("a", {}), "accepted");
  EXPECT_ERROR(entity_scores({{"O"}}, {{"O", "O"}}), "sequence 0", "2", "1");
  EXPECT_ERROR(entities_of({"O", ""}), "tag");
}

}  // namespace
}  // namespace transformers::testing
