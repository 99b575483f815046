#pragma once

#include <random>
#include <string>

/// Random changes to an input. Each but the first keeps to a grammar, so that the changed input gets past the first
/// check of a parser and reaches what lies behind it. An input that does not follow the grammar is changed as bytes.
namespace transformers::fuzz {

using Random = std::minstd_rand;

/// Below `limit`, which must not be 0.
inline size_t below(Random& random, size_t limit) { return random() % limit; }

std::string change_bytes(std::string input, Random& random);
/// Values, keys and members of a JSON text.
std::string change_json(std::string input, Random& random);
/// One line of JSON, or the order of lines.
std::string change_json_lines(std::string input, Random& random);
/// Opcodes and operands of a pickle.
std::string change_pickle(std::string input, Random& random);
/// Records of a stored zip archive; data.pkl as a pickle.
std::string change_zip(std::string input, Random& random);
/// The header of a safetensors file as JSON; its length, and mostly the amount of data, then follow.
std::string change_safetensors(std::string input, Random& random);
/// JSON up to the first zero byte, or the safetensors file behind it.
std::string change_adapter_folder(std::string input, Random& random);

}  // namespace transformers::fuzz
