#include <transformers/utils/tokenization/bpe_tokenizer.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fuzz/target.h"

namespace transformers::fuzz {
namespace {

/// A folder of this process that holds the input as tokenizer.json.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("fuzz_tokenizer_" + std::to_string(getpid()))) {
    std::filesystem::create_directory(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string with(std::string_view input) const {
    std::ofstream(path_ / "tokenizer.json", std::ios::binary) << input;
    return path_.string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::vector<std::string> seeds() {
  return {
      R"({"version":"1.0","added_tokens":[{"id":4,"content":"<e>","special":true,"normalized":false,"lstrip":true}],)"
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]},"decoder":{"type":"ByteLevel"},)"
      R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u0120":3},"merges":[["a","b"]]}})",
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace",)"
      R"("pattern":{"String":" "},"content":"\u2581"}]},"post_processor":{"type":"TemplateProcessing","single":[)"
      R"({"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"a":{"ids":[1]}}},)"
      R"("decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ",)"
      R"("start":1,"stop":0}]},"model":{"type":"BPE","unk_token":"u","byte_fallback":true,"fuse_unk":true,)"
      R"("vocab":{"u":0,"a":1,"\u2581":2,"<0x41>":3,"\u2581a":4},"merges":["\u2581 a"]}})"};
}

void try_input(std::string_view input) {
  static const Folder folder;
  const auto tokenizer = BpeTokenizer::from_tokenizer_json(folder.with(input));
  tokenizer->decode(tokenizer->encode("ab <e> A1 \xe2\x96\x81 ab"), /*skip_special_tokens=*/false);
}

}  // namespace transformers::fuzz
