// Rules: seqeval 1.2.2, metrics/sequence_labeling.py, which are those of the CoNLL-2000 script conlleval.
#include <c10/util/Exception.h>
#include <transformers/utils/training/metrics.h>

#include <algorithm>
#include <iterator>

namespace transformers {
namespace {

/// "B-PER" → 'B', "PER".
struct Tag {
  char kind = 'O';
  std::string type{};

  static Tag of(const std::string& text) {
    TORCH_CHECK(!text.empty(), "a tag must not be empty");
    const auto rest = text.substr(1);
    const auto dash = rest.find('-');
    const auto type = dash == std::string::npos ? rest : rest.substr(dash + 1);
    return {text.front(), type.empty() ? "_" : type};
  }
};

bool one_of(char kind, std::string_view kinds) { return kinds.find(kind) != std::string_view::npos; }

bool ends_before(const Tag& last, const Tag& next) {
  return one_of(last.kind, "ES") || (one_of(last.kind, "BI") && one_of(next.kind, "BSO")) ||
         (!one_of(last.kind, "O.") && last.type != next.type);
}

bool starts_with(const Tag& last, const Tag& next) {
  return one_of(next.kind, "BS") || (one_of(last.kind, "ESO") && one_of(next.kind, "EI")) ||
         (!one_of(next.kind, "O.") && last.type != next.type);
}

}  // namespace

std::vector<Entity> entities_of(const std::vector<std::string>& tags) {
  std::vector<Entity> entities;
  Tag last;
  int64_t first = 0;
  const auto count = static_cast<int64_t>(tags.size());
  for (int64_t i = 0; i <= count; ++i) {
    const auto next = i < count ? Tag::of(tags[static_cast<size_t>(i)]) : Tag::of("O");
    if (ends_before(last, next)) {
      entities.push_back({last.type, first, i - 1});
    }
    if (starts_with(last, next)) {
      first = i;
    }
    last = next;
  }
  return entities;
}

PrecisionRecallF1 entity_scores(const std::vector<std::vector<std::string>>& predictions,
                                const std::vector<std::vector<std::string>>& references) {
  TORCH_CHECK(predictions.size() == references.size(), "there must be as many predictions as references, got ",
              predictions.size(), " and ", references.size());
  double found = 0, expected = 0, matched = 0;
  for (size_t i = 0; i < predictions.size(); ++i) {
    TORCH_CHECK(predictions[i].size() == references[i].size(), "sequence ", i, " has ", references[i].size(),
                " tags, its prediction ", predictions[i].size());
    auto ours = entities_of(predictions[i]), theirs = entities_of(references[i]);
    std::sort(ours.begin(), ours.end());
    std::sort(theirs.begin(), theirs.end());
    std::vector<Entity> common;
    std::set_intersection(ours.begin(), ours.end(), theirs.begin(), theirs.end(), std::back_inserter(common));
    found += static_cast<double>(ours.size());
    expected += static_cast<double>(theirs.size());
    matched += static_cast<double>(common.size());
  }
  const auto ratio = [](double part, double whole) { return whole == 0 ? 0 : part / whole; };
  return {ratio(matched, found), ratio(matched, expected), ratio(2 * matched, found + expected)};
}

}  // namespace transformers
