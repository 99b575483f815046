// Messages for wrong command lines: the nearest known subcommand or option by edit distance, and rules for numbers.
#include "cli/usage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace transformers::cli {
namespace {

using Names = std::vector<std::string>;

/// The number of insertions, removals and replacements of characters between two words; swapping two neighbours counts
/// once.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> rows(a.size() + 1, std::vector<size_t>(b.size() + 1));
  std::iota(rows[0].begin(), rows[0].end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    rows[i][0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t differs = a[i - 1] == b[j - 1] ? 0 : 1;
      rows[i][j] = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + differs});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.size()][b.size()];
}

/// "lr" of "learning-rate".
std::string initials(const std::string& name) {
  std::string letters = name.substr(0, 1);
  for (size_t dash = name.find('-'); dash < name.size() - 1; dash = name.find('-', dash + 1)) {
    letters += name[dash + 1];
  }
  return letters;
}

/// The known name that is probably meant; empty when none is similar.
std::string nearest(const std::string& word, const Names& known) {
  constexpr size_t kLongest = 40;
  const auto by = [&](const auto& fits) {
    const auto found = std::ranges::find_if(known, fits);
    return found == known.end() ? std::string() : *found;
  };
  if (auto name = by([&](const auto& n) { return word.size() > 1 && initials(n) == word; }); !name.empty()) {
    return name;
  }
  if (auto name = by([&](const auto& n) { return word.size() > 2 && n.starts_with(word); }); !name.empty()) {
    return name;
  }
  if (word.size() > kLongest || known.empty()) {
    return {};
  }
  const auto closest = *std::ranges::min_element(known, {}, [&](const auto& n) { return distance(word, n); });
  return distance(word, closest) <= std::max<size_t>(1, word.size() / 3) ? closest : std::string();
}

/// The app itself and its option groups, which are apps without a name.
std::vector<const CLI::App*> with_groups(const CLI::App& app) {
  std::vector<const CLI::App*> apps{&app};
  for (const auto* group : app.get_subcommands([](const CLI::App* part) { return part->get_name().empty(); })) {
    apps.push_back(group);
  }
  return apps;
}

Names long_names(const CLI::App& app) {
  Names names;
  for (const auto* part : with_groups(app)) {
    for (const auto* option : part->get_options()) {
      names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
    }
  }
  return names;
}

const CLI::Option* find_option(const CLI::App& app, const std::string& name) {
  for (const auto* part : with_groups(app)) {
    if (const auto* option = part->get_option_no_throw(name)) {
      return option;
    }
  }
  return nullptr;
}

std::string unknown_text(const std::string& kind, const std::string& word, const std::string& dashes,
                         const Names& known) {
  const auto near = nearest(word, known);
  return dashes + word + ": there is no such " + kind + (near.empty() ? "" : "; did you mean " + dashes + near + "?");
}

bool is_option(const std::string& argument) {
  return argument.size() > 2 && argument.starts_with("--") && argument[2] != '-';
}

/// The first option among the arguments after `first` that `app` does not have; values of options are skipped.
std::string unknown_option(const CLI::App& app, const CLI::App& command, const Names& arguments, size_t first) {
  for (size_t i = first; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (!is_option(arguments[i])) {
      continue;
    }
    const auto equals = arguments[i].find('=');
    const auto name = arguments[i].substr(0, equals);
    const auto* option = find_option(command, name);
    option = option == nullptr ? find_option(app, name) : option;
    if (option == nullptr) {
      auto known = long_names(command);
      const auto common = long_names(app);
      known.insert(known.end(), common.begin(), common.end());
      return unknown_text("option of " + command.get_name(), name.substr(2), "--", known);
    }
    i += equals == std::string::npos ? static_cast<size_t>(std::max(0, option->get_items_expected_min())) : 0;
  }
  return {};
}

CLI::Validator number_rule(const char* rule, const char* type, bool (*holds)(double)) {
  return {[=](std::string& text) {
            double value = NAN;
            const bool fits = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && holds(value);
            return fits ? std::string() : std::string("must be a number ") + rule + ", got " + text;
          },
          type};
}

}  // namespace

std::string unknown_word(const CLI::App& app, const std::vector<std::string>& arguments) {
  const auto word = std::ranges::find_if(arguments, [](const auto& argument) { return !argument.starts_with("-"); });
  if (word == arguments.end()) {
    return {};
  }
  const auto commands = app.get_subcommands([](const CLI::App* part) { return !part->get_name().empty(); });
  const auto command = std::ranges::find_if(commands, [&](const CLI::App* part) { return part->get_name() == *word; });
  if (command == commands.end()) {
    Names names;
    std::ranges::transform(commands, std::back_inserter(names), [](const CLI::App* part) { return part->get_name(); });
    return unknown_text("subcommand", *word, "", names);
  }
  return unknown_option(app, **command, arguments, static_cast<size_t>(word - arguments.begin()) + 1);
}

CLI::Validator positive_number() {
  return number_rule("above 0", "POSITIVE", [](double value) { return value > 0; });
}

CLI::Validator not_negative_number() {
  return number_rule("of at least 0", "NONNEGATIVE", [](double value) { return value >= 0; });
}

}  // namespace transformers::cli
