#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace transformers::cli {

/// What is wrong with a command line that names a subcommand or an option which does not exist, with the nearest one
/// that does; empty when all exist. CLI11 would speak of what it misses first, or of the option's value.
std::string unknown_word(const CLI::App& app, const std::vector<std::string>& arguments);

/// Rules for numbers, with messages that do not print the ends of a double.
CLI::Validator positive_number();
CLI::Validator not_negative_number();

}  // namespace transformers::cli
