#pragma once

#include <ATen/core/Tensor.h>
#include <transformers/export.h>

#include <functional>
#include <memory>
#include <string_view>

namespace TRANSFORMERS_API transformers {

class StreamingDecoder;
class Tokenizer;

/// Receives tokens while they are generated. Mirrors HF's `BaseStreamer` (generation/streamers.py,
/// transformers 5.23.0).
class Streamer {
 public:
  virtual ~Streamer() = default;
  /// First the prompt, int64 [rows, seq], then each step's tokens, int64 [rows], all on the CPU. False stops generation
  /// after these tokens. What it throws goes through `generate` to the caller.
  virtual bool put(const at::Tensor& ids) = 0;
  /// Generation is over; not called when something was thrown.
  virtual void end() = 0;
};

struct TextStreamerOptions {
  bool skip_prompt = false;
  bool skip_special_tokens = true;  // false in HF
};

/// Hands on text as it is produced: each piece is whole UTF-8 characters, and all pieces together are what decoding the
/// new tokens at once gives. (HF's holds a piece back until a space follows.) For one row.
class TextStreamer : public Streamer {
 public:
  /// on_text: takes a piece of text, never an empty one; false stops generation.
  TextStreamer(const std::shared_ptr<const Tokenizer>& tokenizer, std::function<bool(std::string_view)> on_text,
               TextStreamerOptions options = {});
  ~TextStreamer() override;
  bool put(const at::Tensor& ids) override;
  void end() override;

 private:
  bool hand_on(std::string_view text);

  std::unique_ptr<StreamingDecoder> decoder_;
  std::function<bool(std::string_view)> on_text_;
  bool skips_next_;  // the next tokens are a prompt that is not wanted
  bool goes_on_ = true;
};

}  // namespace transformers
