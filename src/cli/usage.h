#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace transformers::cli {

/// The error message for a command line with a subcommand or an option that does not exist, with the nearest existing
/// one; empty when all exist. CLI11 would first complain about missing arguments or about the option's value.
std::string unknown_word(const CLI::App& app, const std::vector<std::string>& arguments);

/// Validators of numbers, whose messages do not print the limits of a double.
CLI::Validator positive_number();
CLI::Validator not_negative_number();

}  // namespace transformers::cli
