#include "utils/text/foreign_format.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace transformers {
namespace {

using namespace std::string_view_literals;

struct Format {
  std::string_view magic;
  std::string_view name;
};

constexpr std::array kFormats{
    Format{"version https://git-lfs"sv, "a Git LFS pointer, not the file itself; fetch it with git lfs pull"sv},
    Format{"PK\x03\x04"sv, "a zip archive, as torch.save writes"sv},
    Format{"PK\x05\x06"sv, "an empty zip archive"sv},
    Format{"\x80\x02"sv, "a pickle"sv},
    Format{"\x80\x03"sv, "a pickle"sv},
    Format{"\x80\x04"sv, "a pickle"sv},
    Format{"\x80\x05"sv, "a pickle"sv},
    Format{"\x1f\x8b"sv, "a gzip file"sv},
    Format{"GGUF"sv, "a GGUF file"sv},
    Format{"\x89HDF\r\n"sv, "an HDF5 file"sv},
};

bool is_html(std::string_view head) {
  std::string text;
  for (const unsigned char byte : head.substr(0, 64)) {
    if (!std::isspace(byte)) {
      text += static_cast<char>(std::tolower(byte));
    }
  }
  return text.starts_with("<!doctypehtml") || text.starts_with("<html") || text.starts_with("<?xml");
}

}  // namespace

std::string foreign_format(std::string_view head) {
  const auto* format =
      std::ranges::find_if(kFormats, [&](const Format& candidate) { return head.starts_with(candidate.magic); });
  if (format != kFormats.end()) {
    return std::string(format->name);
  }
  return is_html(head) ? "an HTML page" : "";
}

std::string foreign_format_note(std::string_view head) {
  const auto name = foreign_format(head);
  return name.empty() ? "" : " (this is " + name + ")";
}

}  // namespace transformers
