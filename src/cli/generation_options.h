#pragma once

#include <transformers/utils/modeling/generation_config.h>

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

namespace transformers::cli {

/// What the command line says about generation: HF's GenerationConfig fields with dashes.
class GenerationOptions {
 public:
  void add_to(CLI::App& command);
  /// The fields that were given, read as strictly as a generation_config.json.
  GenerationConfig config() const;

 private:
  std::map<std::string, std::string> values_;  // by the field's name
  std::vector<std::string> stop_strings_;
};

}  // namespace transformers::cli
