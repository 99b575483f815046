#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "fuzz/changes.h"

namespace transformers::fuzz {
namespace {

using namespace std::string_view_literals;

/// Bytes of a whole opcode at the front of `rest`; nothing when it is cut off.
std::optional<size_t> opcode_size(std::string_view rest) {
  const auto counted = [&](size_t width) -> std::optional<size_t> {
    uint32_t count = 0;
    if (rest.size() < 1 + width) {
      return std::nullopt;
    }
    std::memcpy(&count, rest.data() + 1, width);
    return 1 + width + count;
  };
  switch (static_cast<uint8_t>(rest[0])) {
    case 'X':
      return counted(4);
    case 0x8a:
      return counted(1);
    case 'c': {
      const auto module = rest.find('\n');
      const auto name = module == std::string_view::npos ? module : rest.find('\n', module + 1);
      return name == std::string_view::npos ? std::nullopt : std::optional(name + 1);
    }
    case 'K':
    case 'q':
    case 'h':
    case 0x80:
      return 2;
    case 'M':
      return 3;
    case 'J':
    case 'r':
    case 'j':
      return 5;
    case 'G':
      return 9;
    default:
      return 1;
  }
}

std::vector<std::string> opcodes_of(std::string_view pickle) {
  std::vector<std::string> opcodes;
  while (!pickle.empty()) {
    const auto size = opcode_size(pickle);
    const auto taken = size && *size <= pickle.size() ? *size : pickle.size();
    opcodes.emplace_back(pickle.substr(0, taken));
    pickle.remove_prefix(taken);
  }
  return opcodes;
}

constexpr std::array kPieces{"N"sv,
                             "\x88"sv,
                             "K\0"sv,
                             "K\xff"sv,
                             "J\xff\xff\xff\xff"sv,
                             "J\xff\xff\xff\x7f"sv,
                             "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"sv,
                             "\x8a\x00"sv,
                             "G\0\0\0\0\0\0\0\0"sv,
                             "X\0\0\0\0"sv,
                             "X\1\0\0\0a"sv,
                             "X\7\0\0\0storage"sv,
                             "("sv,
                             ")"sv,
                             "\x85"sv,
                             "\x86"sv,
                             "\x87"sv,
                             "t"sv,
                             "]"sv,
                             "}"sv,
                             "a"sv,
                             "e"sv,
                             "s"sv,
                             "u"sv,
                             "q\0"sv,
                             "h\0"sv,
                             "r\1\0\0\0"sv,
                             "j\1\0\0\0"sv,
                             "Q"sv,
                             "R"sv,
                             "b"sv,
                             "."sv,
                             "ccollections\nOrderedDict\n"sv,
                             "ctorch._utils\n_rebuild_tensor_v2\n"sv,
                             "ctorch._utils\n_rebuild_tensor_v3\n"sv,
                             "ctorch._utils\n_rebuild_parameter\n"sv,
                             "ctorch\nFloatStorage\n"sv,
                             "ctorch.storage\nUntypedStorage\n"sv,
                             "ctorch\nbfloat16\n"sv,
                             "ctorch\nSize\n"sv,
                             "ctorch\ndevice\n"sv,
                             "cos\nsystem\n"sv};

/// Another value of the operand; the length of a text or a long integer follows.
std::string with_other_operand(std::string opcode, Random& random) {
  const auto head = opcode[0] == 'X' ? 5 : static_cast<uint8_t>(opcode[0]) == 0x8a ? 2 : 1;
  if (opcode.size() < 2 || opcode.size() < static_cast<size_t>(head)) {
    return opcode;
  }
  auto operand = change_bytes(opcode.substr(head), random);
  if (opcode[0] == 'X') {
    const auto size = static_cast<uint32_t>(operand.size());
    return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + operand;
  }
  if (head == 2) {
    operand.resize(std::min<size_t>(operand.size(), 255));
    return opcode.substr(0, 1) + static_cast<char>(operand.size()) + operand;
  }
  operand.resize(opcode[0] == 'c' ? operand.size() : opcode.size() - 1);
  return opcode.substr(0, 1) + operand;
}

}  // namespace

std::string change_pickle(std::string input, Random& random) {
  auto opcodes = opcodes_of(input);
  if (opcodes.size() < 3) {
    return change_bytes(std::move(input), random);
  }
  const auto at = below(random, opcodes.size()), other = below(random, opcodes.size());
  const auto place = opcodes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (below(random, 7)) {
    case 0:
      opcodes.erase(place);
      break;
    case 1:
      std::swap(opcodes[at], opcodes[other]);
      break;
    case 2: {
      const auto count = std::min(1 + below(random, 12), opcodes.size() - other);
      const std::vector<std::string> copied(opcodes.begin() + static_cast<std::ptrdiff_t>(other),
                                            opcodes.begin() + static_cast<std::ptrdiff_t>(other + count));
      opcodes.insert(place, copied.begin(), copied.end());
      break;
    }
    case 3:
      opcodes[at] = kPieces[below(random, kPieces.size())];
      break;
    case 4:
      opcodes.emplace(place, kPieces[below(random, kPieces.size())]);
      break;
    default:
      opcodes[at] = with_other_operand(opcodes[at], random);
  }
  std::string changed;
  for (const auto& opcode : opcodes) {
    changed += opcode;
  }
  return changed;
}

}  // namespace transformers::fuzz
