#pragma once

#include <transformers/utils/configuration/generation_config.h>

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

namespace transformers::cli {

/// The generation options of the command line: the fields of HF's GenerationConfig with dashes.
class GenerationOptions {
 public:
  void add_to(CLI::App& command);
  /// The fields that were given, checked as strictly as those of a generation_config.json.
  GenerationConfig config() const;

 private:
  std::map<std::string, std::string> values_;  // by the field's name
  std::vector<std::string> stop_strings_;
};

}  // namespace transformers::cli
